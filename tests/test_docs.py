"""The documentation, held to the code: nothing left out, nothing that is not there, no dead link."""

import json
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import typer

from nas import errors
from nas.attention import MODULES, build
from nas.attention.kernel import CHUNK
from nas.cli.__main__ import app, main
from nas.errors import NasError
from nas.kinds import ATTENTION_SPECS, Grouped, Headed, Position
from nas.results import METRICS
from nas.running import driver, same_study
from nas.running.cluster_nodes import Node, node_event
from nas.running.stop_control import request_stop
from nas.settings import study_file
from nas.settings.study_file import StudyFile
from nas.settings.task_settings import TASK_KINDS, TASK_TABLES
from nas.toml_table import Table

ROOT = Path(__file__).parents[1]
AT_TOP = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
PAGES = {
    p.name: p
    for p in [*sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "guides").glob("*.md")), *AT_TOP]
}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def prose(page: str) -> str:
    """The page without its fenced blocks."""
    return FENCE.sub("", PAGES[page].read_text(encoding="utf-8"))


def fences(page: str, *languages: str) -> list[str]:
    return [body for language, body in FENCE.findall(PAGES[page].read_text(encoding="utf-8")) if language in languages]


def sections(page: str) -> dict[str, str]:
    """Heading → what stands below it, up to the next heading of any level."""
    parts = re.split(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rows(section: str) -> list[list[str]]:
    """The cells of every table in the section, without the headings."""
    lines = [line for line in section.splitlines() if line.startswith("|")]
    heads = {i for i, line in enumerate(lines) if set(line) <= set("|- ")}
    kept = [line for i, line in enumerate(lines) if i not in heads and i + 1 not in heads]
    return [[cell.strip() for cell in line.strip("|").split(" |")] for line in kept]


def spans(text: str) -> list[str]:
    """What is set as code, on one line."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]


def walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    if hasattr(command, "commands"):
        for word, inner in command.commands.items():
            yield from walk(inner, f"{name} {word}")
    else:
        yield name, command


ROOT_COMMAND: Any = typer.main.get_command(app)
COMMANDS = dict(walk(ROOT_COMMAND, "nas"))
GROUPS = {name.rpartition(" ")[0] for name in COMMANDS}
OPTIONS = {name: {o for p in command.params for o in p.opts} | {"--help"} for name, command in COMMANDS.items()}
OPTIONS["nas"] = {o for p in ROOT_COMMAND.params for o in p.opts}


def parsed(arguments: list[str]) -> dict[str, Any]:
    """The parameters of a command line. Raises what the command line would."""
    command, name = ROOT_COMMAND, "nas"
    while hasattr(command, "commands"):
        name, *arguments = arguments
        command = command.commands[name]
    parameters: dict[str, Any] = command.make_context(name, arguments).params
    return parameters


def command_lines(page: str, *languages: str) -> list[list[str]]:
    """The arguments of every `nas ...` in fenced blocks, up to a redirection or a pipe."""
    found = []
    for line in "".join(fences(page, *languages)).splitlines():
        if match := re.match(r"(?:\$ )?(?:\S+/)?nas (.+)", line):
            arguments = shlex.split(match[1], comments=True)
            found.append(arguments[: next((i for i, a in enumerate(arguments) if a in (">", "|")), None)])
    return found


def test_every_command_has_its_section_and_no_other_is_told():
    assert {title for title in sections("commands.md") if title.startswith("nas ")} == set(COMMANDS)


def names_of(parameter: Any) -> list[str]:
    """How the command line calls it: `--trials`, or `STUDY` for an argument."""
    return parameter.opts if parameter.param_type_name == "option" else [parameter.metavar.strip("[]")]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_argument_and_option_is_told_under_its_command(name):
    table = {tuple(span.split()[0] for span in spans(row[0])): row[1] for row in rows(sections("commands.md")[name])}
    parameters = {tuple(names_of(p)): p for p in COMMANDS[name].params}
    assert table.keys() == parameters.keys()
    for names, p in parameters.items():
        assert (table[names] == "required") == p.required
        if p.default not in (None, False) and not getattr(p, "count", False):
            assert table[names] == f"`{p.default}`"


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_options_in_the_text_exist(page):
    text = prose(page)
    for span in (s for s in spans(text) if s.startswith("nas ") and s not in GROUPS):
        name = next((n for n in COMMANDS if f"{span} ".startswith(f"{n} ")), "nas" if span.startswith("nas -") else "")
        assert name, span
        assert {word for word in span.split() if word.startswith("-")} <= OPTIONS[name], span
    mentioned = {word for span in spans(text) for word in re.findall(r"(?<![\w-])--[a-z][a-z-]*", span)}
    if PAGES[page].parent.name != "guides":  # those tell of options of other programs too
        assert mentioned <= set[str]().union(*OPTIONS.values())


@pytest.mark.parametrize("page", PAGES)
def test_fenced_commands_parse(page):
    for arguments in command_lines(page, "sh", "console"):
        assert parsed(arguments) is not None


@pytest.mark.parametrize("page", PAGES)
def test_study_files_in_fences_and_overrides_without_a_shown_error_are_accepted(page):
    for block in fences(page, "toml"):
        tomllib.loads(block)
        assert study_file.parse(block).search_space().size() != 0
    for parameters in (parsed(a) for a in command_lines(page, "sh") if a[0] == "check"):
        study_file.load(ROOT / parameters["file"], parameters["overrides"] or [])


def test_every_error_class_stands_at_its_exit_code():
    told = {row[0]: spans(row[-1]) for row in rows(sections("commands.md")["Exit codes"])}
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, NasError)]
    assert len(classes) > 5
    for error in classes:
        assert error.code in told[str(error.exit_code)]


def test_every_environment_variable_is_told():
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "nas").rglob("*.py"))
    told = [row[0].strip("`") for row in rows(sections("commands.md")["Environment variables"])]
    assert sorted(told) == sorted(set(re.findall(r"\bNAS_[A-Z_]+", sources)))


STUDY = """
name = "events"
task = {{ corpus = "{corpus}", context = 8 }}
train = {{ steps = 4, batch = 2, rungs = [0.5, 1.0], evaluation_tokens = 64 }}
measure = {{ repeats = 2 }}
objectives = [{{ metric = "val_loss" }}, {{ metric = "decode_ms_per_token" }}]
constraints = [{{ metric = "params", max = 1e9 }}]
search = {{ trials = 2, sampler = "random" }}
resources = {{ device = "cpu" }}
space = {{ depth = 1, hidden = 16, attention = [{{ kind = "softmax", heads = [1, 2, 4] }}] }}
"""


@pytest.fixture
def events(tmp_path, monkeypatch, capsys) -> list[dict[str, Any]]:
    """What a search that is stopped at its first rung, and then resumed to its end with --json, has to say."""
    corpus, folder, seen = tmp_path / "text.txt", tmp_path / "runs" / "events", list[dict[str, Any]]()
    corpus.write_text("the quick brown fox jumps over the lazy dog. " * 20, encoding="utf-8")

    def stop_at_a_rung(event: dict[str, Any]) -> None:
        seen.append(event)
        if event["type"] == "rung":
            request_stop(folder, now=True)

    driver.run(study_file.parse(STUDY.format(corpus=corpus)), folder, driver.Launch("serial", trials=9), stop_at_a_rung)
    monkeypatch.setenv("NAS_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr("nas.report.write", lambda record, folder: folder / "index.html")
    monkeypatch.setattr(sys, "argv", ["nas", "resume", "events", "--executor", "serial", "--json", "--trials", "2"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line.pop("v") for line in lines} == {1}
    return seen + lines


@pytest.mark.slow
def test_every_event_is_told_with_its_keys(events):
    table = rows(sections("commands.md")["Output"])
    told = {spans(kind)[0]: set(spans(keys)) for kind, keys, _ in table}
    del told["restarted"]  # of a damaged checkpoint alone: see tests/cli/test_json_contract.py
    del told["confirming"], told["confirmation"]  # see tests/cli/test_confirm.py
    # of a cluster alone
    assert told.pop("node") == set(node_event(Node("id", "host", 1, 0), "left")) - {"type"}
    seen = {event["type"]: set(event) - {"type"} for event in events}
    seen["waiting"].add("trial")  # a trial's measurement waits on a busy machine alone
    assert seen == told
    counts = next(event["counts"] for event in events if "counts" in event)
    assert set(counts) == set(spans(sections("commands.md")["Output"].rpartition("`counts` holds")[2]))


def settings_in(annotation: Any) -> type[Table] | None:
    """The class of settings in an annotation: itself, or the first that it holds."""
    if isinstance(annotation, type) and issubclass(annotation, Table):
        return annotation
    return next((found for inner in get_args(annotation) if (found := settings_in(inner))), None)


def tables(model: type[Table] = StudyFile, path: str = "") -> Iterator[tuple[str, type[Table]]]:
    """(heading, settings) of every table of a study file."""
    for name, field in model.model_fields.items():
        if inner := settings_in(field.annotation):
            dotted = f"{path}.{name}".strip(".")
            yield f"[[{dotted}]]" if get_origin(field.annotation) is tuple else f"[{dotted}]", inner
            yield from tables(inner, dotted)


OF_TASKS = {
    f"[task], {'a table' if kind == 'table' else kind}": table for kind, table in TASK_TABLES.items() if kind != "text"
}
TABLES = {"Top level": StudyFile, **dict(tables()), **OF_TASKS}


def told_default(field: Any) -> str | None:
    """How a default is written; None where it is a table, which has a section of its own."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, Table):
        return None
    return "none" if value is None else f"`{json.dumps(value)}`"


def test_every_task_is_told():
    assert {f'"{kind}"' for kind in TASK_KINDS} <= set(spans(prose("study_file.md")))


def literals(annotation: Any) -> Iterator[str]:
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    for inner in get_args(annotation):
        yield from literals(inner)


@pytest.mark.parametrize("heading", TABLES)
def test_every_key_is_told_with_its_default_and_its_values(heading):
    fields, table = TABLES[heading].model_fields, rows(sections("study_file.md")[heading])
    assert [row[0] for row in table] == [f"`{name}`" for name in fields]
    for (_, kind, default, _), field in zip(table, fields.values(), strict=True):
        assert default == told_default(field) or told_default(field) is None
        assert {f'"{value}"' for value in literals(field.annotation)} <= set(spans(kind))


def named_kinds(kinds: list[str]) -> str:
    """In few words: the kinds, or those that are left out."""
    others = [kind for kind in ATTENTION_SPECS if kind not in kinds]
    if len(others) < len(kinds):
        return f"all but {', '.join(others)}" if others else "all"
    return ", ".join(kinds)


def test_every_field_of_an_attention_entry_is_told():
    table = {spans(row[0])[0]: row[1:] for row in rows(sections("study_file.md")["[[space.attention]]"])}
    kinds_of: dict[str, list[str]] = {}
    for kind, spec in ATTENTION_SPECS.items():
        for name in spec.model_fields:
            kinds_of.setdefault(name, []).append(kind)
    told = {name: named_kinds(kinds) for name, kinds in kinds_of.items()}
    assert {name: row[0] for name, row in table.items()} == told
    for spec in ATTENTION_SPECS.values():
        for name, field in ((n, f) for n, f in spec.model_fields.items() if n != "kind" and not f.default_factory):
            assert table[name][1] == told_default(field)
    assert set(ATTENTION_SPECS) <= {span.strip('"') for span in spans(table["kind"][2])}


def test_every_metric_is_told_with_its_unit_and_goal():
    answer = {True: "yes", False: "no"}
    expected = [[f"`{m.name}`", m.unit, m.goal, answer[m.cheap], answer[m.exact]] for m in METRICS.values()]
    assert [row[:-1] for row in rows(sections("study_file.md")["Built-in metrics"])] == expected


def test_what_may_change_on_resume_is_told():
    told = spans(sections("study_file.md")["What may change later"])
    assert {key.strip(".") for key in same_study.FREE_TO_CHANGE} <= set(told)


KINDS = {spec.model_fields["kind"].default: spec for spec in MODULES}


def test_every_attention_kind_has_its_section():
    title, positions, *kinds = sections("attention.md")
    assert (title, positions, kinds) == ("Attention kinds", "Positions", list(KINDS))
    assert [spans(row[0])[0] for row in rows(sections("attention.md")[positions])] == list(get_args(Position))
    assert [row[0] for row in rows(sections("attention.md")[title])] == [f"[{kind}](#{kind})" for kind in KINDS]


@pytest.mark.parametrize("kind", KINDS)
def test_the_costs_and_sources_of_a_kind_are_those_of_its_module(kind):
    page = sections("attention.md")
    row = next(row for row in rows(page["Attention kinds"]) if row[0].startswith(f"[{kind}]"))
    T = C = 4 * CHUNK
    D, H, w, fields = 32, 4, 16, {"kv_heads": 2} if issubclass(KINDS[kind], Grouped) else {}
    headed = issubclass(KINDS[kind], Headed)
    E, K = D // H, fields.get("kv_heads", H)
    symbols = {"T": T, "C": C, "D": D, "H": H, "E": E, "K": K, "w": w, "c": CHUNK, "min": min}
    symbols |= {"L": 32, "R": E // 2, "b": 16, "g": 0, "n": 4, "s": 4, "m": 32, "r": 32, "u": 2**20 // (T * D)}
    flops, state = (eval(cell.replace("·", "*").replace("²", "**2").replace("−", "-"), symbols) for cell in row[1:3])
    fields |= ({"heads": H} if headed else {}) | ({"window": w} if "window" in KINDS[kind].model_fields else {})
    layer = build(KINDS[kind](**fields), D, C, causal="causal" in KINDS[kind].forms)
    assert layer.flops(T) == flops + (4 * T * D * (H + K) * E if headed else 0)
    assert layer.state_bytes(1, C) == 4 * state
    assert spans(row[3]) == [name for name in KINDS[kind].model_fields if name != "kind"]
    assert tuple(row[4].split(", ")) == KINDS[kind].forms
    assert tuple(row[5].split(", ")) == KINDS[kind].positions
    for source in re.findall(r"arXiv:\d+\.\d+", f"{MODULES[KINDS[kind]].__doc__} {KINDS[kind].__doc__}"):
        assert source in page[kind]


def anchors(page: Path) -> set[str]:
    """The headings as links name them: lower case, no punctuation, hyphens for spaces."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)", prose(page)):
        path = PAGES[page].parent / target if target else PAGES[page]
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), anchor


@pytest.mark.parametrize("page", PAGES)
def test_files_of_the_project_that_the_text_names_exist(page):
    added = {"nas/attention/mean.py", "nas/tasks/correction.py"} if page == "extending.md" else set()
    named = re.findall(r"(?<![\w/.])(?:nas|tests|docs|search_spaces)/[\w/]+\.\w+", " ".join(spans(prose(page))))
    assert {name for name in named if not (ROOT / name).exists()} == added
