"""What the tests of several families need."""

from collections.abc import Callable
from dataclasses import is_dataclass

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nas.architecture import Architecture
from nas.models import build

VOCABULARY, CONTEXT = 31, 24


def built(architecture: Architecture, vocabulary: int = VOCABULARY, context: int = CONTEXT) -> nn.Module:
    torch.manual_seed(0)
    return build(architecture, vocabulary, context)


@torch.no_grad()
def far_from_start(model: nn.Module, by: float = 0.1) -> nn.Module:
    """Weights moved, so that nothing is uniform, zero or one by the way it starts."""
    for weight in model.parameters():
        weight.add_(torch.randn_like(weight) * by)
    return model


def tokens(batch: int, length: int, vocabulary: int = VOCABULARY, seed: int = 1) -> torch.Tensor:
    return torch.randint(vocabulary, (batch, length), generator=torch.Generator().manual_seed(seed))


def counted_flops(run: Callable[[], object]) -> int:
    """The counter sees nothing of the fused CPU kernel, so the plain one is counted."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        run()
    return counter.get_total_flops()


def real_bytes(held: object) -> int:
    """Of all tensors in a state, each storage once."""

    def storages(value: object) -> dict[int, int]:
        if isinstance(value, torch.Tensor):
            return {value.untyped_storage()._cdata: value.untyped_storage().nbytes()}
        if isinstance(value, list):
            return {k: v for part in value for k, v in storages(part).items()}
        return storages(list(vars(value).values())) if is_dataclass(value) else {}

    return sum(storages(held).values())


def assert_likeliest(chosen: torch.Tensor, logits: torch.Tensor) -> None:
    """Each chosen token is the likeliest; of two that rounding alone tells apart, either may be chosen."""
    taken = logits.gather(-1, chosen[..., None])[..., 0]
    torch.testing.assert_close(taken, logits.max(-1).values, atol=1e-4, rtol=1e-4)


def log_chances(model: nn.Module, source: torch.Tensor, text: torch.Tensor, start: int, stop: int) -> torch.Tensor:
    """The log-probability of each text up to its first `stop`, by one full pass."""
    before = torch.cat((torch.full((len(text), 1), start), text[:, :-1]), dim=1)
    each = model(source, before).log_softmax(-1).gather(-1, text[..., None])[..., 0]
    ended = (text == stop).int()
    return (each * (ended.cumsum(1) - ended == 0)).sum(1)


def loss_after(model: nn.Module, loss: Callable[[int], torch.Tensor], steps: int, rate: float = 1e-2) -> float:
    """The last loss of a short training; `loss` is given the number of the step."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate)
    for step in range(steps):
        value = loss(step)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
    return value.item()


def loss_of(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def expected_loss(logits: torch.Tensor) -> float:
    """The loss on targets of which nothing tells anything: all are as likely."""
    return -torch.log_softmax(logits, dim=-1).mean().item()
