"""Docstrings are read by strangers: the first line is a sentence about what stands below it, and no fragment."""

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import nas

ROOT = Path(nas.__path__[0])
FRAGMENT = re.compile(r"(Of|The same|What|Whether|Where|Which|Who|Whoever|Whom|Whose|How|Why)\b")
WITHOUT_A_VERB = re.compile(r"(Until|Around|Without|With|By|At|Beyond|Below|Within|Exactly|Fitted)\b")
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def docstrings(source: str) -> Iterator[tuple[str, str]]:
    """The name and the docstring of everything in the source that has one, constants and fields included."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, DOCUMENTED):
            continue
        if text := ast.get_docstring(node):
            yield getattr(node, "name", "the file"), text
        for told, below in pairwise(node.body):
            if isinstance(told, ast.Assign | ast.AnnAssign) and isinstance(below, ast.Expr):
                text = getattr(below.value, "value", None)
                yield f"line {told.lineno}", text if isinstance(text, str) else ""


@pytest.mark.parametrize("package", sorted({path.relative_to(ROOT).parts[0] for path in ROOT.rglob("*.py")}))
def test_no_docstring_begins_as_a_fragment(package):
    paths = (ROOT / package).rglob("*.py") if (ROOT / package).is_dir() else [ROOT / package]
    assert [
        f"{path.relative_to(ROOT)}, {name}: {text.splitlines()[0]}"
        for path in paths
        for name, text in docstrings(path.read_text(encoding="utf-8"))
        if FRAGMENT.match(text) or (not name.startswith("line ") and WITHOUT_A_VERB.match(text))
    ] == []


def first_sentence(path: Path) -> str:
    """Returns the first sentence of the file's docstring, on one line."""
    paragraph = " ".join(
        (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")[0].split()
    )
    found = re.match(r".*?\.(?= [A-Z`]|$)", paragraph)
    return found[0] if found else paragraph


def test_the_code_map_names_every_file_with_the_first_sentence_of_its_docstring():
    page = (ROOT.parent / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("\n## Code map\n")[2]
    told = list[tuple[str, str]]()
    for section in page.split("\n### nas/")[1:]:
        folder = section.partition(":")[0]
        told += [(folder + name, text) for name, text in re.findall(r"^- `([\w.]+)`: (.*)$", section, re.MULTILINE)]
    assert sorted(told) == sorted(
        (path.relative_to(ROOT).as_posix(), first_sentence(path)) for path in ROOT.rglob("*.py")
    )
