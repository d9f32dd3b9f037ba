"""Writes tensors and JSON to disk: checkpoints while a model trains, a folder of weights when it is done.

Every file is written whole or not at all (nas.files).
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from nas import files
from nas.architecture import Architecture
from nas.models import TOKENS, Head
from nas.tasks.coders import Coder
from nas.training.folder_names import ARCHITECTURE, METRICS, VOCABULARY, WEIGHTS


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Returns the live tensors that make up the model, each once: tied weights have their first name alone."""
    unique: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in model.state_dict().items():
        unique.setdefault(tensor.data_ptr(), (name, tensor))
    return dict(unique.values())


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Writes one safetensors file. Each metadata value is JSON, since the format stores strings alone."""
    plain = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    texts = {key: json.dumps(value) for key, value in metadata.items()}

    def write(beside: Path) -> None:
        try:
            save_file(plain, beside, texts)
        except SafetensorError as error:  # how the library tells that the disk refuses
            raise OSError(str(error)) from error

    files.replace(path, write)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns (tensors on the CPU, metadata). Raises FileNotFoundError, and ValueError for a file that is not complete.

    Raises FileNotFoundError, and ValueError for a file that is not complete.
    """
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, _metadata(file)  # noqa: SIM118 (not a mapping)


def read_metadata(path: Path) -> dict[str, Any]:
    """Reads the metadata of a tensors file. Raises as `read_tensors`."""
    with _opened(path) as file:
        return _metadata(file)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise FileNotFoundError(path)
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise ValueError(f"{path} is not a complete safetensors file: {error}") from error


def _metadata(file: Any) -> dict[str, Any]:
    """Parses each value as JSON. Where a file of another program has no JSON, the value stays text."""
    found: dict[str, Any] = {}
    for key, text in (file.metadata() or {}).items():
        try:
            found[key] = files.parse_json(text)
        except ValueError:
            found[key] = text
    return found


def save_weights(
    folder: Path,
    model: nn.Module,
    architecture: Architecture,
    *,
    coder: Coder,
    context: int,
    head: Head = TOKENS,
    metrics: Mapping[str, Any],
) -> None:
    """Saves a trained model as four files: weights, architecture, vocabulary (with context and head) and metrics.

    The weights are written last and carry the architecture's id, so a half-replaced folder is recognised.
    """
    files.write_json(folder / ARCHITECTURE, architecture.model_dump(mode="json"))
    files.write_json(folder / VOCABULARY, {"context": context, "head": asdict(head), **coder.saved()})
    files.write_json(folder / METRICS, dict(metrics))
    write_tensors(folder / WEIGHTS, tensors_of(model), {"architecture": architecture.id})


def copy_into(own: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> bool:
    """Copies the stored values into the live tensors of the same names. False, with no change, unless all fit."""
    if own.keys() != stored.keys() or any(own[name].shape != stored[name].shape for name in own):
        return False
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(stored[name])
    return True
