"""Draws a live panel that leaves no old lines behind when the terminal is resized.

Rich moves the cursor up by as many lines as it has written. A terminal that becomes narrower wraps some of these lines,
so that they fill more rows. This module counts the rows again at the new width.
"""

from collections.abc import Callable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.segment import Segment

PER_SECOND = 2


class LivePanel(Live):
    """Shows what `panel` returns, twice a second, below all other output, until it is stopped."""

    def __init__(self, panel: Callable[[], RenderableType], console: Console) -> None:
        self._measured = _Measured(panel)
        super().__init__(
            get_renderable=lambda: self._measured, console=console, refresh_per_second=PER_SECOND, transient=True
        )

    def process_renderables(self, renderables: list[Any]) -> list[Any]:
        """Tells Rich how many rows the last drawing fills now. The console calls it before each drawing."""
        rows = self._measured.rows(self.console.width, self.console.height)
        if rows is not None:
            self._live_render._shape = (self.console.width, rows)
        return super().process_renderables(renderables)


class _Measured:
    """Draws a panel and keeps the length of each line."""

    def __init__(self, panel: Callable[[], RenderableType]) -> None:
        self.panel, self.width, self.lengths = panel, 0, list[int]()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = [_trimmed(line) for line in console.render_lines(self.panel(), options, pad=False)]
        self.width, self.lengths = console.width, [Segment.get_line_length(line) for line in lines]
        for line in lines:
            yield from line
            yield Segment.line()

    def rows(self, width: int, height: int) -> int | None:
        """Counts the rows that the last drawing fills in a terminal of another width; None where the width is the
        same.
        """
        if width == self.width or not self.lengths:
            return None
        return sum(max(1, -(-length // width)) for length in self.lengths[:height])


def _trimmed(line: list[Segment]) -> list[Segment]:
    """Returns the line without its trailing spaces, which only some terminals wrap."""
    kept = list(line)
    while kept and not kept[-1].text.strip():
        kept.pop()
    if kept:
        kept[-1] = Segment(kept[-1].text.rstrip(), kept[-1].style, kept[-1].control)
    return kept
