"""Serves PriMO of NePS to another process: a line of JSON in, a line of JSON out. It runs in a Python of its own.

NePS 0.17 pins gpytorch 1.13 and pandas below 3, and gpytorch 1.13 pins jaxtyping 0.2.19, which excludes the versions
that `nas` needs. So this file imports nothing of `nas`, and any Python with neural-pipeline-search can run it.

    {"parameters": {name: [options]}, "least": 60, "most": 600, "seed": 0}  →  {"rungs": [steps], "version": text}
    {"ask": true}                                                           →  {"id", "before", "config", "steps"}
    {"tell": id, "values": [to be minimised] or null where it failed}       →  {}

Options are numbered: a configuration holds the place of each choice.
"""

import json
import random
import sys
from importlib.metadata import version
from typing import Any

import neps
import numpy as np
import torch
from neps.optimizers import algorithms
from neps.space import HPOCategorical, HPOInteger, SearchSpace

STEPS = "training_steps"
INITIAL_DESIGN = 5
"""Full trainings that the initial design costs. NePS takes as many as parameters, which a short run would not leave."""


def optimizer(job: dict[str, Any]) -> Any:
    """Makes PriMO with NePS's defaults, without priors, since nothing is known beforehand."""
    space: dict[str, Any] = {
        name: HPOCategorical(choices=[str(i) for i in range(len(options))])
        for name, options in job["parameters"].items()
    }
    space[STEPS] = HPOInteger(lower=job["least"], upper=job["most"], is_fidelity=True)
    return algorithms.primo(SearchSpace(space), prior_centers={}, initial_design_size=INITIAL_DESIGN)


def answer(asked: dict[str, Any], run: Any) -> dict[str, Any]:
    """Answers one line."""
    if "ask" in asked:
        trial = run.ask()
        config = dict(trial.config)
        steps = int(config.pop(STEPS))
        places = {name: int(place) for name, place in config.items()}
        return {"id": trial.id, "before": trial.metadata.previous_trial_id, "config": places, "steps": steps}
    values = asked["values"]
    run.tell(asked["tell"], RuntimeError("training failed") if values is None else {"objective_to_minimize": values})
    return {}


def main() -> None:
    """Reads the job, then answers until standard input ends."""
    out, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    job = json.loads(sys.stdin.readline())
    random.seed(job["seed"])
    np.random.seed(job["seed"])  # noqa: NPY002  # the generator that NePS draws from
    torch.manual_seed(job["seed"])
    torch.set_num_threads(1)
    primo = optimizer(job)
    run = neps.AskAndTell(optimizer=primo)
    rungs = sorted(int(steps) for steps in primo.bracket_optimizer.rung_to_fid.values())
    print(json.dumps({"rungs": rungs, "version": version("neural-pipeline-search")}), file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line), run)), file=out, flush=True)


if __name__ == "__main__":
    main()
