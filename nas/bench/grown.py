"""Grows an architecture to several times its parameters: it is widened, and its blocks are repeated in place.

Parameters grow with depth · width², so both grow by about the cube root of the factor. The depth is rounded first. Then
the width is one with which the parameters are near to those wanted, and of these the one that changes the size of the
heads least: their number grows with the width. Heads for keys and values stay one, half or all of the heads, as they
were. Windows, ranks and other sizes of a kind stay.
"""

import math
from collections.abc import Callable, Iterator, Sequence

from nas.architecture import Architecture, Block
from nas.errors import InvalidArchitecture, UsageError
from nas.kind_base import Grouped, Headed, Kind, Position

WIDTH_STEP = 8
"""Widths are multiples of this, as processors like them."""
NEAR = 0.15
"""Parameters are near to those wanted within this share."""
AROUND = (0.7, 1.5)
"""The widths that are tried, as shares of the estimated one."""
Count = Callable[[Architecture], int]
"""Counts the parameters of an architecture."""


def grow(architecture: Architecture, factor: float, count: Count) -> Architecture:
    """Returns the architecture with about `factor` times the parameters, at least one block deeper and 8 wider.

    Raises UsageError where no such form can be built.
    """
    wanted = factor * count(architecture)
    found = [
        (grown, math.log(count(grown) / wanted), _stretch(architecture, grown))
        for grown in _wider(architecture, factor)
    ]
    if not found:
        raise UsageError(f"no larger form of '{architecture}' can be built", where="--times", help="a smaller factor")
    near = [each for each in found if abs(each[1]) <= math.log1p(NEAR)]
    if near:
        return min(near, key=lambda each: (each[2], abs(each[1])))[0]
    return min(found, key=lambda each: abs(each[1]))[0]


def _wider(architecture: Architecture, factor: float) -> Iterator[Architecture]:
    """Yields the forms of the new depth whose width can be built, around the width that is expected."""
    share, before = factor ** (1 / 3), architecture.hidden
    depth, encoder = (_deeper(len(stack), share) for stack in (architecture.blocks, architecture.encoder_blocks))
    expected = before * math.sqrt(factor * architecture.depth / depth)
    lowest = max(before + 1, math.floor(AROUND[0] * expected))
    first = math.ceil(lowest / WIDTH_STEP) * WIDTH_STEP
    for hidden in range(first, max(first, math.ceil(AROUND[1] * expected)) + 1, WIDTH_STEP):
        stacks = {"blocks": (architecture.blocks, depth), "encoder_blocks": (architecture.encoder_blocks, encoder)}
        try:
            changes = {
                name: tuple(_block(block, before, hidden) for block in _repeated(blocks, length))
                for name, (blocks, length) in stacks.items()
            }
            larger = architecture.model_copy(update={"hidden": hidden, **changes})
            yield Architecture.model_validate(larger.canonical())
        except InvalidArchitecture:
            continue


def _deeper(depth: int, share: float) -> int:
    return max(depth + 1, round(depth * share)) if depth else 0


def _repeated(blocks: Sequence[Block], length: int) -> list[Block]:
    """Repeats blocks in place, as evenly as can be: a b becomes a a b for a length of 3."""
    return [blocks[i * len(blocks) // length] for i in range(length)]


def _block(block: Block, before: int, hidden: int) -> Block:
    cross = block.cross and _kind(block.cross, before, hidden, "none")
    return block.model_copy(
        update={"attention": _kind(block.attention, before, hidden, block.position), "cross": cross}
    )


def _kind(kind: Kind, before: int, hidden: int, position: Position) -> Kind:
    """Gives a kind as many heads as fit the new width. Raises InvalidArchitecture where no number does."""
    if not isinstance(kind, Headed):
        return kind
    wanted = kind.heads * hidden / before
    options = [_with_heads(kind, heads) for heads in range(1, 2 * math.ceil(wanted) + 1)]
    fitting = [option for option in options if option and option.problem(hidden, position) is None]
    if not fitting:
        raise InvalidArchitecture(f"{kind} fits no hidden size of {hidden}")
    return min(fitting, key=lambda option: abs(math.log(option.heads / wanted)))


def _with_heads(kind: Headed, heads: int) -> Headed | None:
    """Returns the kind with so many heads; None where those for keys and values cannot keep their share."""
    if not isinstance(kind, Grouped):
        return kind.model_copy(update={"heads": heads})
    shared = kind.heads // kind.kv_heads
    if kind.kv_heads == 1 < kind.heads:
        return kind.model_copy(update={"heads": heads, "kv_heads": 1})
    return kind.model_copy(update={"heads": heads, "kv_heads": heads // shared}) if heads % shared == 0 else None


def _stretch(architecture: Architecture, grown: Architecture) -> float:
    """Tells how far the size of the heads changes: the largest logarithm of a ratio, 0 where all keep theirs."""
    sizes = [_head_sizes(each) for each in (architecture, grown)]
    stretched = [sizes[0][i * architecture.depth // grown.depth] for i in range(grown.depth)]
    return max((abs(math.log(b / a)) for a, b in zip(stretched, sizes[1], strict=True)), default=0.0)


def _head_sizes(architecture: Architecture) -> list[int]:
    kinds = [block.attention for block in architecture.blocks]
    return [kind.size(architecture.hidden) if isinstance(kind, Headed) else 1 for kind in kinds]
