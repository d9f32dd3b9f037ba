"""This package holds the pareto sampler and its parts, for use in any Optuna study."""
