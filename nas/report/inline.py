"""Makes a figure's SVG part of the page: its colours follow the reader's theme, its ids stay unique."""

import re

from markupsafe import Markup, escape

from nas.report.figures import Drawn
from nas.report.palette import LIGHT


def inline(drawn: Drawn) -> Markup:
    """Returns the `<svg>` element alone, named for screen readers. matplotlib escapes the text that it draws."""
    text = drawn.svg[drawn.svg.index("<svg") :]
    for name, colour in LIGHT.items():
        text = text.replace(colour, f"var(--{name})")
    text = re.sub(r'\bid="', f'id="{drawn.name}-', text)
    text = re.sub(r'(url\(|href=")#', rf"\g<1>#{drawn.name}-", text)
    # In HTML the parser knows the namespaces, and nothing then looks like an address.
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)
    return Markup(text.replace("<svg", f'<svg role="img" aria-label="{escape(drawn.caption)}"', 1))
