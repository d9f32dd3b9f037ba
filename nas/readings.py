"""Writes the readings of a measurement compactly, and reads them again: about two bytes a reading.

Readings are whole numbers of 10 ns. The differences of neighbours, as zigzag varints, are deflated and written in
base64. A stored text is bounded when it is read.
"""

import base64
import binascii
import zlib
from collections.abc import Sequence

from nas.errors import Conflict

UNIT_NS = 10
MOST_READINGS = 4096
"""The most readings of one quantity that are kept. Of more, evenly spaced rounds are."""
MOST_CHARACTERS = 64 * 1024
"""A longer text was never written by `kept`."""
LARGEST = 2**53
"""No reading is as long: three years."""
_MOST_BYTES = MOST_READINGS * 9


def kept(rounds: Sequence[Sequence[float]]) -> str:
    """Returns the readings of rounds, in milliseconds and all equally many in a round, as text.

    Where they are more than MOST_READINGS, every second, third ... round is kept.
    """
    size = max(1, len(rounds[0])) if rounds else 1
    every = -(-len(rounds) * size // MOST_READINGS)
    readings = [reading for readings in rounds[:: max(1, every)] for reading in readings]
    return encode(readings[:MOST_READINGS])


def encode(readings_ms: Sequence[float]) -> str:
    """Returns readings, in milliseconds, as text."""
    before, out = 0, bytearray()
    for reading in readings_ms:
        now = round(reading * 1e6 / UNIT_NS)
        step = now - before
        before, rest = now, (step << 1) ^ (step >> 63)
        while rest >= 0x80:
            out.append(rest & 0x7F | 0x80)
            rest >>= 7
        out.append(rest)
    return base64.b64encode(zlib.compress(bytes(out), 9)).decode("ascii")


def decode(text: str) -> list[float]:
    """Returns the readings of a text, in milliseconds. Raises Conflict for one that `encode` never wrote."""
    try:
        if len(text) > MOST_CHARACTERS:
            raise ValueError("too long")
        inflate = zlib.decompressobj()
        data = inflate.decompress(base64.b64decode(text, validate=True), _MOST_BYTES)
        if not inflate.eof:
            raise ValueError("cut, or too long")
        return [reading * UNIT_NS / 1e6 for reading in _sums(data)]
    except (ValueError, binascii.Error, zlib.error) as error:
        help = "restore a copy of the study's folder; everything but later statistics does without the readings"
        raise Conflict("stored readings are damaged", code="damaged", detail=str(error), help=help) from None


def _sums(data: bytes) -> list[int]:
    found, total, rest, shift = list[int](), 0, 0, 0
    for byte in data:
        rest |= (byte & 0x7F) << shift
        shift += 7
        if byte & 0x80:
            if shift > 56:
                raise ValueError("a reading is too large")
            continue
        total += (rest >> 1) ^ -(rest & 1)
        if not 0 <= total <= LARGEST:
            raise ValueError("a reading is negative or too large")
        found.append(total)
        rest, shift = 0, 0
    if shift:
        raise ValueError("the last reading is cut")
    if len(found) > MOST_READINGS:
        raise ValueError("too many readings")
    return found
