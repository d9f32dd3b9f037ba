"""The pareto sampler and its parts: usable in any Optuna study."""
