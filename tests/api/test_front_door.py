"""`import nas`: light, complete, and typed."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import nas

HEAVY = {"torch", "ray", "optuna", "pandas", "pydantic", "numpy"}


def test_importing_nas_loads_nothing_heavy():
    code = "import json, sys, nas; nas.__version__; dir(nas); print(json.dumps(list(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(json.loads(ran.stdout)) & HEAVY == set()


@pytest.mark.parametrize("name", nas.__all__)
def test_every_public_name_is_there(name):
    assert getattr(nas, name) is not None
    assert name in dir(nas)


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'nas' has no attribute 'serach'"):
        nas.serach  # noqa: B018  looking it up is the test


def test_type_checkers_see_what_is_loaded():
    tree = ast.parse(Path(nas.__file__).read_text(encoding="utf-8"))
    (typed,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in typed.body for alias in node.names}
    loaded = {name: module for module, names in nas._HOMES.items() for name in names}
    assert seen == loaded
    assert sorted(loaded) == [name for name in nas.__all__ if name != "__version__"]
    assert Path(nas.__file__).with_name("py.typed").exists()
