"""Models from architectures: `build(architecture, vocabulary, context)`."""

from collections.abc import Callable

from torch import nn

from nas.architecture import Architecture, Family
from nas.errors import UsageError
from nas.models.decoder import Decoder
from nas.models.encoder import Encoder
from nas.models.encoder_decoder import EncoderDecoder
from nas.models.recurrent import RecurrentModel, RecurrentSeq2Seq, recurrent
from nas.models.seq2seq import Seq2Seq

__all__ = [
    "FAMILIES",
    "Decoder",
    "Encoder",
    "EncoderDecoder",
    "RecurrentModel",
    "RecurrentSeq2Seq",
    "Seq2Seq",
    "build",
]

FAMILIES: dict[Family, Callable[[Architecture, int, int], nn.Module]] = {
    "decoder": Decoder,
    "encoder": Encoder,
    "encoder_decoder": EncoderDecoder,
    "recurrent": recurrent,
}


def build(architecture: Architecture, vocabulary: int = 65, context: int = 64) -> nn.Module:
    """The model of an architecture, for token ids below `vocabulary` and sequences of up to `context` tokens.

    Weights are drawn from torch's generator: seed it, or fork it, for a reproducible start.
    """
    for name, value in (("vocabulary", vocabulary), ("context", context)):
        if value < 1:
            raise UsageError(f"{name}={value} must be at least 1")
    return FAMILIES[architecture.family](architecture, vocabulary, context)
