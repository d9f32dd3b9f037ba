"""The definitions of the attention kinds, one query at a time: no fused kernel, no mask, no cache, no chunks.

These are the specification: slow and obvious, and differentiable by plain autograd. Weights are the module's own.
A definition takes (layer, x_BTD, memory_BSD or None, padding or None), and gives the output and the attention weights
(B, H, T, S) as `Attention.weights` must; None where the kind has none.
"""

from collections.abc import Callable

from torch import Tensor

from nas.attention import Attention
from nas.kinds import (
    Additive,
    BlockSparse,
    Cosine,
    Differential,
    GatedDelta,
    GatedLinear,
    Kind,
    Latent,
    Linear,
    Linformer,
    Lstm,
    NoAttention,
    Performer,
    Retention,
    Softmax,
    Window,
)
from tests.reference import (
    additive,
    differential,
    dot_product,
    gated_delta,
    gated_linear,
    latent,
    linear,
    linformer,
    lstm,
    none,
    performer,
    retention,
)

Definition = Callable[[Attention, Tensor, Tensor | None, Tensor | None], tuple[Tensor, Tensor | None]]

DEFINITIONS: dict[type[Kind], Definition] = {
    Softmax: dot_product.softmax,
    Latent: latent.latent,
    Cosine: dot_product.cosine,
    Additive: additive.additive,
    Differential: differential.differential,
    Window: dot_product.window,
    BlockSparse: dot_product.block_sparse,
    Linear: linear.linear,
    Performer: performer.performer,
    Linformer: linformer.linformer,
    Retention: retention.retention,
    GatedLinear: gated_linear.gated_linear,
    GatedDelta: gated_delta.gated_delta,
    NoAttention: none.none,
    Lstm: lstm.lstm,
}
