"""The floors of the house, proved from the source: imports run down or sideways along the order, and in no circle."""

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import nas

ROOT = Path(nas.__path__[0])
FLOORS = (
    (
        "bounds",
        "surroundings",
        "printable",
        "errors",
        "folders",
        "formatting",
        "intervals",
        "samplers",
        "files",
        "temporary_folders",
        "remote_files",
        "trial_files",
        "spec",
        "kind_base",
        "kinds",
        "architecture",
        "reasons",
        "rungs",
        "confirmation",
        "results",
        "measurement",
        "readings",
        "body",
        "pareto",
        "confirm",
        "paired",
        "toml_table",
    ),
    ("space", "settings", "data"),
    ("attention", "models", "tasks", "measure", "training"),
    ("study", "running"),
    ("report", "api", "bench", "cli"),
)
"""From the bottom up, and from left to right: a part imports what stands before it, and itself."""
ORDER = [*(part for floor in FLOORS for part in floor), ""]
"""The front door, nas/__init__.py, stands above all."""


def name_of(path: Path) -> str:
    """nas/study/stored_study.py → nas.study.stored_study; a package is named after its folder."""
    parts = ("nas", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}


def imports_of(module: str) -> set[str]:
    """Every module that it imports, wherever the import stands; `from package import module` names the module."""
    found = set()
    for node in ast.walk(ast.parse(SOURCES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative imports hide the floor"
            full = {alias: f"{node.module}.{alias}" for alias in (a.name for a in node.names)}
            found |= {full[alias] if full[alias] in SOURCES else str(node.module) for alias in full}
    return found


@cache
def graph() -> dict[str, set[str]]:
    """Made when the first test asks, not by every process that collects these tests."""
    return {module: imports_of(module) for module in SOURCES}


def part(module: str) -> str:
    """nas.study.stored_study → study: the unit that the order speaks of."""
    return module.split(".")[1] if "." in module else ""


def importers(package: str) -> set[str]:
    return {m for m, imports in graph().items() if any(i.split(".")[0] == package for i in imports)}


def test_every_part_has_its_place_in_the_order():
    assert {part(module) for module in SOURCES} - {""} <= set(ORDER)


def test_imports_run_to_a_lower_floor_or_sideways_along_the_order():
    above = {
        (module, imported)
        for module, imports in graph().items()
        for imported in imports
        if imported.startswith("nas.") and ORDER.index(part(imported)) > ORDER.index(part(module))
    }
    assert above == set()


def test_only_commands_go_through_the_front_door():
    assert {part(module) for module, imports in graph().items() if "nas" in imports} <= {"cli", "bench"}


def test_no_file_is_too_long_to_be_read_at_once():
    lengths = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in SOURCES.items()}
    assert {module: length for module, length in lengths.items() if length > 320} == {}


def test_no_circles():
    ours = {module: {i for i in imports if i in SOURCES} for module, imports in graph().items()}
    tuple(TopologicalSorter(ours).static_order())  # raises CycleError, which shows the circle


def test_only_the_executor_and_the_benchmarks_import_ray():
    assert {m for m in importers("ray") if part(m) != "bench" and not m.startswith("nas.running.ray_")} == set()


def test_only_sampling_storing_running_and_the_benchmarks_import_optuna():
    assert {part(m) for m in importers("optuna")} <= {"samplers", "study", "running", "bench"}


def test_the_lower_floors_and_the_database_import_no_torch():
    assert not {m for m in importers("torch") if part(m) in (*FLOORS[0], *FLOORS[1], "samplers", "study")}


def test_the_sampler_imports_nothing_else_of_ours_but_errors():
    samplers = [imports for module, imports in graph().items() if part(module) == "samplers"]
    assert {part(i) for imports in samplers for i in imports if i.startswith("nas.")} <= {"samplers", "errors"}


def test_attention_never_imports_models():
    assert not {m for m, imports in graph().items() if part(m) == "attention" and "models" in map(part, imports)}


def test_the_report_reads_stored_results_alone():
    for module in (m for m in SOURCES if part(m) == "report"):
        assert not {
            i
            for i in graph()[module]
            if part(i) in ("samplers", "study", "running") or i.split(".")[0] in ("torch", "ray", "optuna")
        }
