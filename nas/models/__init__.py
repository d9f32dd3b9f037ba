"""Models from architectures: `build(architecture, vocabulary, context)`."""

from nas.architecture import Architecture
from nas.errors import UsageError
from nas.models.decoder import Decoder, DecoderState

__all__ = ["FAMILIES", "Decoder", "DecoderState", "build"]

FAMILIES = {"decoder": Decoder}


def build(architecture: Architecture, vocabulary: int = 65, context: int = 64) -> Decoder:
    """The model of an architecture, for token ids below `vocabulary` and sequences of up to `context` tokens.

    Weights are drawn from torch's generator: seed it, or fork it, for a reproducible start.
    """
    for name, value in (("vocabulary", vocabulary), ("context", context)):
        if value < 1:
            raise UsageError(f"{name}={value} must be at least 1")
    return FAMILIES[architecture.family](architecture, vocabulary, context)
