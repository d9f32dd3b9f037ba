"""Builds models from architectures: `build(architecture, vocabulary, context)`."""

from collections.abc import Callable

from torch import nn

from nas.architecture import Architecture, Family
from nas.errors import UsageError
from nas.models.copying import CopyingEncoderDecoder
from nas.models.decoder import Decoder
from nas.models.encoder import Classifier, Encoder, SpanReader
from nas.models.encoder_decoder import EncoderDecoder
from nas.models.heads import TOKENS, Head
from nas.models.recurrent import RecurrentModel, RecurrentSeq2Seq, recurrent
from nas.models.seq2seq import Seq2Seq

__all__ = [
    "FAMILIES",
    "TOKENS",
    "Classifier",
    "CopyingEncoderDecoder",
    "Decoder",
    "Encoder",
    "EncoderDecoder",
    "Head",
    "RecurrentModel",
    "RecurrentSeq2Seq",
    "Seq2Seq",
    "SpanReader",
    "build",
]

FAMILIES: dict[Family, Callable[[Architecture, int, int], nn.Module]] = {
    "decoder": Decoder,
    "encoder": Encoder,
    "encoder_decoder": EncoderDecoder,
    "recurrent": recurrent,
}


def build(architecture: Architecture, vocabulary: int = 65, context: int = 64, head: Head = TOKENS) -> nn.Module:
    """Builds the model of an architecture, for token ids below `vocabulary` and sequences of up to `context` tokens.

    `head` says what the model's outputs are. The weights come from torch's generator: seed or fork it for a
    reproducible start. Raises UsageError for sizes below 1 and for a head that the family cannot have.
    """
    for name, value in (("vocabulary", vocabulary), ("context", context)):
        if value < 1:
            raise UsageError(f"{name}={value} must be at least 1")
    if head.kind == "tokens":
        return FAMILIES[architecture.family](architecture, vocabulary, context)
    if head.kind == "copy":
        if architecture.family != "encoder_decoder":
            raise UsageError(f"a model of the family '{architecture.family}' does not copy; an encoder_decoder does")
        return CopyingEncoderDecoder(architecture, vocabulary, context)
    if architecture.family != "encoder":
        raise UsageError(f"a model of the family '{architecture.family}' predicts no {head.kind}; an encoder does")
    if head.kind == "span":
        return SpanReader(architecture, vocabulary, context)
    return Classifier(architecture, vocabulary, context, len(head.classes))
