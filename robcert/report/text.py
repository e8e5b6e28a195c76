"""Names that others chose, made harmless for the place where they are printed.

A model, a file or a label can be called anything. Each function says which place it is for; none changes what an
ordinary name looks like.
"""

from __future__ import annotations

import html
import re
import unicodedata

MOST = 200
"""Longer names are cut in the middle, in formats that a person reads."""
_MARKUP = re.compile(r"([\\`*_\[\]#|~])")


def plain(text: str, most: int = MOST) -> str:
    """One line without control characters: newlines, escape sequences and reordering marks become visible."""
    shown = "".join(_visible(character) for character in text)
    if len(shown) <= most:
        return shown
    kept = (most - 5) // 2
    return f"{shown[:kept]} ... {shown[-kept:]}"


def markdown(text: str, most: int = MOST) -> str:
    """For a cell of a table or a sentence of GitHub's markdown: no markup, no HTML, no mention of anybody."""
    return (
        html.escape(_MARKUP.sub(r"\\\1", plain(text, most)), quote=False)
        .replace("@", "&#64;")
        .replace("://", "&#58;//")
    )


def _visible(character: str) -> str:
    # Cc: control, Cf: format (direction marks), Cs: lone surrogates, Zl and Zp: line and paragraph separators.
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
        return character.encode("unicode_escape", "surrogatepass").decode()
    return character
