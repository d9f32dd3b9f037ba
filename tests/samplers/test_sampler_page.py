"""The example of docs/sampler.md runs as it stands there, and its table names every argument with its default."""

import inspect
import re
from pathlib import Path

import optuna
import pytest

import nas

pytestmark = pytest.mark.slow
PAGE = (Path(__file__).parents[2] / "docs" / "sampler.md").read_text(encoding="utf-8")


def test_the_example_runs_and_finds_the_front(capsys):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(example, "docs/sampler.md", "exec"), names)
    study = names["study"]
    assert isinstance(study, optuna.Study)
    assert capsys.readouterr().out == f"20 trials, {len(study.best_trials)} on the front\n"
    assert len(study.best_trials) >= 5
    assert all(trial.constraints["size"] <= 0 for trial in study.best_trials)


def test_every_argument_stands_in_the_table():
    arguments = dict(inspect.signature(nas.ParetoSampler).parameters)
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", PAGE, flags=re.MULTILINE))
    assert list(rows) == list(arguments)
    assert rows["n_startup_trials"] == str(arguments["n_startup_trials"].default)
