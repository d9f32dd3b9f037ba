"""Computes the attention maps of a trained model: the weights of every block and head over one validation example, as
JSON.

Shapes: H heads, T tokens that look, S tokens looked at.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas import files
from nas.architecture import Architecture
from nas.models.seq2seq import Seq2Seq
from nas.tasks import Task

TOKENS = 32
"""The most tokens of the example that are shown; more would be too small to see."""
DIGITS = 2


def of(model: Any, architecture: Architecture, task: Task, device: str = "cpu") -> dict[str, Any]:
    """Returns {tokens, source_tokens, maps: [{name, kind, to_source, weights}]}, with weights [H][T][S] of every block
    that has some. `tokens` are what the model reads, `source_tokens` those of its source, if there is one.
    """
    inputs = tuple(tensor.to(device) for tensor in task.shown(TOKENS))
    was_training = model.training
    model.eval()
    stacks = _stacks(model, architecture, inputs)
    model.train(was_training)
    maps = [
        {"name": name, "kind": kind, "to_source": name.endswith("to source"), "weights": _plain(weights)}
        for name, kind, weights in stacks
        if weights is not None
    ]
    read, source = (inputs[1], inputs[0]) if isinstance(model, Seq2Seq) else (inputs[0], None)
    return {"tokens": _symbols(task, read), "source_tokens": _symbols(task, source), "maps": maps}


def save(path: Path, maps: dict[str, Any]) -> None:
    """Saves the maps without the line breaks that JSON would put between thousands of numbers."""
    files.write_text(path, json.dumps(maps, ensure_ascii=False, separators=(",", ":")))


def _stacks(model: Any, architecture: Architecture, inputs: tuple[Tensor, ...]) -> list[tuple[str, str, Tensor | None]]:
    """Yields (name, kind, weights) of each attention, from the input up."""
    blocks, encoder_blocks = architecture.blocks, architecture.encoder_blocks
    found = model.attention_maps(*inputs)
    own, encoder, cross = (found.decoder, found.encoder, found.cross) if isinstance(model, Seq2Seq) else (found, [], [])
    sides = (("encoder block {}", encoder_blocks, encoder), ("block {}", blocks, own))
    named = [
        (name.format(i), str(block.attention), weights)
        for name, side, maps in sides
        for i, (block, weights) in enumerate(zip(side, maps, strict=False))
    ]
    crossing = enumerate(zip(blocks, cross, strict=False))
    return named + [(f"block {i} to source", str(block.cross), weights) for i, (block, weights) in crossing]


def _plain(weights_1HTS: Tensor) -> list[Any]:
    rounded: list[Any] = torch.round(weights_1HTS[0].float().cpu(), decimals=DIGITS).tolist()
    return [[[round(value, DIGITS) for value in row] for row in head] for head in rounded]


def _symbols(task: Task, tokens_1T: Tensor | None) -> list[str]:
    return [] if tokens_1T is None else [task.coder.shown(token) for token in tokens_1T[0].tolist()]
