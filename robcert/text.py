"""Text that others chose, made harmless for a terminal and for one line of anything.

A model, a file, an array or a label can be called anything, and an error says what it found.
"""

from __future__ import annotations

import re
import sys
import unicodedata

MOST = 200
"""Longer names are cut in the middle, in formats that a person reads."""

_CONTROLS = re.compile(r"\x1b\[[0-9;]*m|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def plain(text: str, most: int = MOST) -> str:
    """One line without control characters: newlines, escape sequences and reordering marks become visible."""
    shown = "".join(_visible(character) for character in text)
    if len(shown) <= most:
        return shown
    kept = (most - 5) // 2
    return f"{shown[:kept]} ... {shown[-kept:]}"


def brief(name: str, most: int = 32) -> str:
    """Return a name for the head of a column or the beginning of a line; a long one is shortened in the middle."""
    return plain(name, most)


def plain_lines(text: str) -> str:
    """Return the same for a message of several lines, of any length."""
    return "\n".join(plain(line, sys.maxsize) for line in text.split("\n"))


def shown(text: str, colours: bool) -> str:
    """Lines for a terminal: a control sequence becomes visible, as JSON writes it; that of a colour stays if wanted."""
    return _CONTROLS.sub(lambda found: _kept(found.group(), colours), text)


def _kept(sequence: str, colours: bool) -> str:
    if len(sequence) > 1 and colours:
        return sequence
    return "".join(f"\\u{ord(one):04x}" if _CONTROLS.match(one) else one for one in sequence)


def _visible(character: str) -> str:
    # Cc: control, Cf: format (direction marks), Cs: lone surrogates, Zl and Zp: line and paragraph separators.
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
        return character.encode("unicode_escape", "surrogatepass").decode()
    return character
