"""Reads a trained model from its folder. It checks every file before it builds anything from it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from nas import bounds, files, models
from nas.architecture import Architecture, first_error, path_of, sentence
from nas.errors import DataError, NasError
from nas.models import Head
from nas.printable import quoted
from nas.tasks.coders import Coder, restored
from nas.training.folder_names import ARCHITECTURE, METRICS, VOCABULARY, WEIGHTS
from nas.training.model_folder import copy_into, read_tensors, tensors_of

T = TypeVar("T", bound=BaseModel)
Symbols = Annotated[list[str], Field(min_length=1, max_length=bounds.VOCABULARY)]


@dataclass(frozen=True)
class TrainedModel:
    """Holds a trained model: `module` in evaluation mode, and its data. `details` holds all of metrics.json."""

    module: nn.Module
    architecture: Architecture
    coder: Coder
    context: int
    head: Head
    metrics: Mapping[str, float]
    details: Mapping[str, Any]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)


class _Head(_Strict):
    kind: Literal["tokens", "classes", "span", "copy"] = "tokens"
    classes: list[str] = []


class _Vocabulary(_Strict):
    """Checks vocabulary.json: what `Coder.saved` gives, with the context and the head."""

    context: int = Field(ge=1, le=bounds.CONTEXT)
    head: _Head = _Head()
    coder: Literal["characters", "words", "subwords"] = "characters"
    symbols: Symbols
    own: Annotated[int, Field(ge=0, le=bounds.VOCABULARY)] | Annotated[list[int], Field(max_length=100)] = 0
    tokenizer: str | None = None


class _Metrics(BaseModel):
    """Checks metrics.json: `nas train` writes a table with `metrics` in it, a search the metrics alone."""

    model_config = ConfigDict(strict=True, extra="allow")

    metrics: dict[str, float]


def read_model(folder: Path, device: str = "cpu") -> TrainedModel:
    """Reads and checks a folder that `nas train` or a search wrote.

    Raises DataError when a file is missing or damaged, or belongs to another model; it names the file, the key and the
    value.
    """
    # The weights come first: without them there is no model here at all.
    try:
        tensors, metadata = read_tensors(folder / WEIGHTS)
    except (OSError, ValueError) as error:
        raise _missing(folder, error) from error
    architecture = _architecture(folder)
    vocabulary = _checked(_Vocabulary, _json(folder / VOCABULARY), folder / VOCABULARY)
    details = _json(folder / METRICS) if (folder / METRICS).exists() else {}
    nested = details if isinstance(details, dict) and "metrics" in details else {"metrics": details}
    metrics = _checked(_Metrics, nested, folder / METRICS).metrics
    head = Head(vocabulary.head.kind, tuple(vocabulary.head.classes))
    coder = _coder(vocabulary, folder / VOCABULARY)
    stored = metadata.get("architecture")
    if stored != architecture.id:
        raise _mismatch(folder, f"{ARCHITECTURE} is {architecture.id}, {WEIGHTS} says {stored}")
    module = _built(folder, architecture, len(coder.symbols), vocabulary.context, head, tensors)
    return TrainedModel(module.to(device).eval(), architecture, coder, vocabulary.context, head, metrics, details)


def _built(
    folder: Path, architecture: Architecture, symbols: int, context: int, head: Head, tensors: Mapping[str, Tensor]
) -> nn.Module:
    """Builds the model with these weights. It compares the shapes before it takes memory for them."""
    with torch.random.fork_rng(devices=[]):  # the first weights are drawn from torch's own generator
        try:
            with torch.device("meta"):
                outline = models.build(architecture, symbols, context, head).state_dict()
        except NasError as error:
            raise _mismatch(folder, error.message) from error
        for name, tensor in tensors.items():
            if name not in outline or outline[name].shape != tensor.shape:
                expected = tuple(outline[name].shape) if name in outline else "no such tensor"
                raise _mismatch(folder, f"{name}: stored {tuple(tensor.shape)}, expected {expected}")
        module = models.build(architecture, symbols, context, head)
    if not copy_into(tensors_of(module), tensors):
        raise _mismatch(folder, f"{WEIGHTS} lacks {', '.join(sorted(tensors_of(module).keys() - tensors.keys())[:3])}")
    return module


def _json(path: Path) -> Any:
    try:
        if not path.is_file():
            raise FileNotFoundError(f"no file {path}")
        return files.read_json(path)
    except FileNotFoundError as error:
        raise _missing(path.parent, error) from error
    except (OSError, ValueError) as error:
        raise _damaged(path, "cannot be read as JSON", str(error)) from error


def _architecture(folder: Path) -> Architecture:
    path = folder / ARCHITECTURE
    data = _json(path)
    try:
        return Architecture.model_validate(data)
    except ValidationError as error:
        raise _damaged(path, "holds no architecture", sentence(error)) from error
    except NasError as error:
        raise _damaged(path, "holds no architecture", error.message) from error


def _coder(vocabulary: _Vocabulary, path: Path) -> Coder:
    if vocabulary.coder == "subwords" and vocabulary.tokenizer is None:
        raise _damaged(path, "holds no vocabulary", "tokenizer is missing")
    try:
        coder = restored(vocabulary.model_dump())
    except Exception as error:  # the tokenizers library raises Exception itself for a text that it cannot read
        raise _damaged(path, "holds no vocabulary", f"tokenizer: {error}") from error
    if len(set(coder.symbols)) < len(coder.symbols):
        raise _damaged(path, "holds no vocabulary", "symbols: one stands there twice")
    return coder


def _checked(kind: type[T], data: Any, path: Path) -> T:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = first_error(error)
        shown = quoted(first.get("input"), 80)
        detail = f"{path_of(first['loc']) or 'the file'} = {shown}: {first['msg']}"
        raise _damaged(path, "is not what a training writes", detail) from error


def _missing(folder: Path, error: Exception) -> DataError:
    help = "`nas train STUDY TRIAL` writes them"
    return DataError(
        "no trained weights to load", code="weights-missing", where=str(folder), detail=str(error), help=help
    )


def _damaged(path: Path, what: str, detail: str) -> DataError:
    help = "train again: `nas train STUDY TRIAL` writes all files again"
    return DataError(f"{path.name} {what}", code="model-damaged", where=str(path), detail=detail, help=help)


def _mismatch(folder: Path, detail: str) -> DataError:
    help = "train again: `nas train STUDY TRIAL` writes all files again"
    text = "these weights belong to another architecture"
    return DataError(text, code="weights-mismatch", where=str(folder), detail=detail, help=help)
