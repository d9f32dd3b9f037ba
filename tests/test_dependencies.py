"""What `nas` imports is what an installation without extras brings: read from the source and pyproject.toml."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]


def imported() -> set[str]:
    """The top-level packages that any file of nas/ imports, anywhere in it."""
    found = set()
    for path in (ROOT / "nas").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"nas"}


def test_every_package_that_is_imported_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    # What these extras bring is asked for where it is used, and told how to get.
    texts = [*project["dependencies"], *(text for name in ("bench", "hf", "postgres") for text in extras[name])]
    declared = {canonicalize_name(Requirement(text).name) for text in texts}
    # NePS has pins that exclude ours, so that it runs in a Python of its own (nas.bench.neps_server).
    # Typing of pydantic's errors lives in its core, which pydantic pins to the very version.
    brought_by = packages_distributions()
    missing = {
        name
        for name in imported() - {"pydantic_core", "neps"}
        if not declared & {canonicalize_name(d) for d in brought_by.get(name, [name])}
    }
    assert not missing


def test_a_commit_is_checked_as_make_check_checks():
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\ncheck: ")[2].partition("\n\n")[0]
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    checks = re.findall(r"^\t\$\(BIN\)/(.+)$", recipe, re.MULTILINE)
    assert checks
    assert re.findall(r"entry: \.venv/bin/(.+)$", hooks, re.MULTILINE) == checks
