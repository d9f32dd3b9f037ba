"""Measures what every kind of attention costs as the context grows: one layer, one sequence, on one thread.

At each context it measures the time of a forward pass, of forward and backward, and of the decode step that fills the
context, and the peak memory of the first two. Beside them stand the costs that the layer states: the bytes of its
decode state, and its FLOPs. The kinds are those of `nas.attention.MODULES`.
"""

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import nn

from nas import bounds, files
from nas.architecture import first_error
from nas.attention import MODULES
from nas.bench import attention_figure, result_folder
from nas.bench.interleaved import Timed, interleaved
from nas.bench.layer import Climb, Layer
from nas.bench.scaling import OPERATIONS, Row, summary
from nas.errors import UsageError, nearest
from nas.kinds import Headed, Kind
from nas.measure import DeviceLock, environment
from nas.measure.latency import quiet
from nas.toml_table import apply_override

ALSO = "window window=256"
"""Measured beside all kinds with their defaults: a window of the width that long contexts use."""
PEAKS = {"inference": "peak_inference_mib", "training": "peak_training_mib"}
COLUMNS = (
    *("kind", "context", "form"),
    *(f"{operation}_ms{part}" for operation in OPERATIONS for part in ("", "_p10", "_p90", "_count")),
    *PEAKS.values(),
    *("decode_state_bytes", "flops", "params", "contended", "skipped"),
)
FILES = ("attention.csv", "attention.json", "attention.svg", "attention.png")


@dataclass(frozen=True)
class Settings:
    """Holds the settings of a run: `kinds` by their names in the results, `repeats` the most readings of one time."""

    kinds: Mapping[str, Kind]
    contexts: tuple[int, ...]
    hidden: int
    threads: int
    repeats: int

    def plain(self) -> dict[str, Any]:
        kinds = {name: spec.canonical() for name, spec in self.kinds.items()}
        return {**vars(self), "kinds": kinds, "contexts": list(self.contexts), "batch": 1}


def parse_kinds(text: str | None, hidden: int, heads: int) -> dict[str, Kind]:
    """Parses "softmax, window window=256" into kinds by name, each with the fields that are not at their defaults.

    None stands for all kinds of the table, and ALSO. Raises UsageError for a kind that is unknown or cannot be built.
    """
    known = {spec.model_fields["kind"].default: spec for spec in MODULES}
    parts = [part.split() or [""] for part in (text or ",".join([*known, ALSO])).split(",")]
    kinds: dict[str, Kind] = {}
    for kind, *words in parts:
        if kind not in known:
            raise UsageError(f"unknown attention kind '{kind}'", where="--kinds", help=nearest(kind, known))
        spec = _parse_fields(known[kind], words, heads)
        if problem := spec.problem(hidden):
            raise UsageError(f"{kind}: {problem[0]}", where="--kinds, --heads or --hidden", help=problem[1])
        kinds[_name(spec, heads)] = spec
    return kinds


def parse_contexts(text: str) -> tuple[int, ...]:
    """Parses "128,256" into the contexts, each once, in rising order. Raises UsageError."""
    words = {word.strip() for word in text.split(",")}
    if not all(word.isdecimal() and len(word) < 8 and 1 < int(word) <= bounds.CONTEXT for word in words):
        help = f"whole numbers from 2 to {bounds.CONTEXT} with commas between them, as in 128,256,512"
        raise UsageError(f"cannot read the contexts '{text}'", where="--contexts", help=help)
    return tuple(sorted(int(word) for word in words))


def compare(settings: Settings, say: Callable[[str], object]) -> dict[str, Any]:
    """Returns {environment, settings, contended, rows} with the keys of `nas.bench.scaling.summary`.

    `say` is called with each step that begins.
    """
    rows = list(_rows(settings, say))
    shares = [row["contended"] for row in rows if row["contended"] is not None]
    return {
        "environment": environment() | {"threads": settings.threads},
        "settings": settings.plain(),
        "contended": sum(shares) / len(shares) if shares else 0.0,
        **summary(rows),
        "rows": rows,
    }


def claim(folder: Path) -> None:
    """Claims the folder before minutes of measuring.

    Raises Conflict where other programs' files have our names, and OutOfReach when the disk cannot be written.
    """
    result_folder.claim(folder, {"attention.json": ("environment", "settings", "rows")}, FILES)


def write(result: Mapping[str, Any], folder: Path) -> None:
    """Writes attention.csv, attention.json, attention.svg and attention.png."""
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(result["rows"])
    files.write_json(folder / "attention.json", result)  # first, since it marks the folder
    files.write_text(folder / "attention.csv", text.getvalue())
    attention_figure.write(result["rows"], folder / "attention")


def _parse_fields(spec: type[Kind], words: list[str], heads: int) -> Kind:
    """Parses FIELD=VALUE, with a value in TOML, or FIELD, which is true."""
    fields = [name for name in spec.model_fields if name != "kind"]
    data: dict[str, Any] = {"heads": heads} if issubclass(spec, Headed) else {}
    for word in words:
        name, equals, _ = word.partition("=")
        if name not in fields:
            kind = spec.model_fields["kind"].default
            help = nearest(name, fields) if fields else "it has none"
            raise UsageError(f"unknown field '{name}' of {kind} attention", where="--kinds", help=help)
        apply_override(data, word if equals else f"{word}=true")
    try:
        return spec.model_validate(data)
    except ValidationError as error:
        first = first_error(error)
        message = f"{first['loc'][-1]}={first['input']!r}: {first['msg'].lower()}"
        raise UsageError(message, where=f"--kinds  {' '.join(words)}") from None


def _name(spec: Kind, heads: int) -> str:
    """Names a kind as `--kinds` does, without fields at their defaults and without the heads that all have."""
    fields = spec.canonical()
    kind = str(fields.pop("kind"))
    if (own := fields.pop("heads", getattr(spec, "heads", heads))) != heads:
        fields = {"heads": own, **fields}
    return " ".join([kind, *(name if value is True else f"{name}={value}" for name, value in fields.items())])


def _rows(settings: Settings, say: Callable[[str], object]) -> Iterator[Row]:
    climbs = {
        name: {mode: Climb(spec, settings.hidden, mode == "training") for mode in PEAKS}
        for name, spec in settings.kinds.items()
    }
    lock = DeviceLock("cpu")
    for context in settings.contexts:
        say(f"context {context:,}: memory")
        for climb in (climb for modes in climbs.values() for climb in modes.values()):
            climb.to(context)
        layers = {name: Layer(spec, settings.hidden, context) for name, spec in settings.kinds.items()}
        timed: dict[str, dict[str, Timed]] = {}
        with quiet(nn.ModuleList(layer.module for layer in layers.values()), settings.threads):
            for operation in OPERATIONS:
                say(f"context {context:,}: {operation}")
                mode = "training" if operation == "training" else "inference"
                fit = {name: layer for name, layer in layers.items() if not climbs[name][mode].refused}
                calls = {name: call for name, layer in fit.items() if (call := layer.call(operation))}
                timed[operation] = interleaved(calls, settings.repeats, lock)
        for name, layer in layers.items():
            yield _row(name, layer, {o: timed[o][name] for o in OPERATIONS if name in timed[o]}, climbs[name])


def _row(name: str, layer: Layer, timed: Mapping[str, Timed], climbs: Mapping[str, Climb]) -> Row:
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {"kind": name, "context": layer.context, "form": "causal" if layer.causal else "bidirectional"}
    row |= layer.stated()
    for operation, found in timed.items():
        ms = found.ms
        spread = {"": ms.median, "_p10": ms.p10, "_p90": ms.p90, "_count": ms.count}
        row |= {f"{operation}_ms{part}": value for part, value in spread.items()}
    row |= {PEAKS[mode]: climb.mib for mode, climb in climbs.items() if not climb.refused}
    shares = [found.contended for found in timed.values()]
    row["contended"] = sum(shares) / len(shares) if shares else None
    row["skipped"] = "; ".join(climb.refused for climb in climbs.values() if climb.refused) or None
    return row
