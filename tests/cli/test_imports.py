"""What must start fast imports nothing heavy."""

import json
import subprocess
import sys

import pytest

HEAVY = {"torch", "ray", "optuna", "pandas", "pydantic", "sklearn", "sqlalchemy"}


def loaded(code: str) -> set[str]:
    """The heavy packages in sys.modules after that code, in a fresh interpreter."""
    ask = f"import json, sys\n{code}\nprint(json.dumps([m for m in sys.modules if '.' not in m]), file=sys.stderr)"
    ran = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    return set(json.loads(ran.stderr.splitlines()[-1])) & HEAVY


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (["--help"], set()),
        (["front", "--help"], {"pydantic"}),  # Typer's own, for the types of options
        (["search", "--help"], {"pydantic"}),
    ],
)
def test_help_loads_nothing_heavy(arguments, allowed):
    code = f"""
from nas.cli.__main__ import main
sys.argv = ["nas", *{arguments!r}]
try:
    main()
except SystemExit as ended:
    assert not ended.code
"""
    assert loaded(code) <= allowed


def test_the_ground_floor_needs_no_torch_ray_or_optuna():
    code = "import nas.architecture, nas.space.architecture_space, nas.settings.study_file, nas.results, nas.pareto"
    assert loaded(code) <= {"pydantic"}


def test_opening_a_study_needs_no_torch_or_ray():
    assert loaded("import nas.study") <= {"pydantic", "optuna", "pandas", "sqlalchemy"}


def test_a_worker_loads_neither_sampler_nor_database_nor_ray_tune():
    """Each would cost every worker a second and 90 MiB or more. Ray Tune is known by pandas."""
    assert loaded("import nas.running.ray_worker, nas.running.trial") <= {"pydantic", "torch", "ray"}
