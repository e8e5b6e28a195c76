"""Names that others chose, made harmless for markdown; `robcert.text` has it for a line of text.

None of these functions changes what an ordinary name looks like.
"""

from __future__ import annotations

import html
import re

from robcert.text import MOST, plain

__all__ = ["MOST", "markdown", "plain"]

_MARKUP = re.compile(r"([\\`*_\[\]#|~])")


def markdown(text: str, most: int = MOST) -> str:
    """For a cell of a table or a sentence of GitHub's markdown: no markup, no HTML, no mention of anybody."""
    return (
        html.escape(_MARKUP.sub(r"\\\1", plain(text, most)), quote=False)
        .replace("@", "&#64;")
        .replace("://", "&#58;//")
    )
