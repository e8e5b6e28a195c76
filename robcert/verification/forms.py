"""A text of nested brackets (S-expressions) as lists of words, each of which knows its line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NoReturn

from robcert.errors import UsageError

DEEPEST = 64
_TOKEN = re.compile(r"\n|;[^\n]*|[()]|[^\s();]+")


class Word(str):
    """A word, with the line that it stands in."""

    __slots__ = ("line",)
    line: int

    @staticmethod
    def at(text: str, line: int) -> Word:
        """Return the word of a line."""
        word = Word(text)
        word.line = line
        return word


class Text:
    """A text of brackets.

    Args:
        where: its file, for messages.
        content: the text.

    Attributes:
        line: the line that is being read, counted from 1.
    """

    def __init__(self, where: str, content: str) -> None:
        self.where, self.content, self.line = where, content, 1

    def fail(self, why: str, form: Any = None) -> NoReturn:
        """Refuse the file, in the line of a form, else in that which is being read.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            f"{self.where}, line {line_of(form) or self.line}: {why}",
            "Expected VNN-LIB 1.0: (declare-const X_i Real), the same for Y_j, (assert ...) with and, or, <=, >=.",
        )

    def forms(self) -> Iterator[Any]:
        """Return the forms one after the other: lists of words and of such lists.

        Raises:
            UsageError: brackets do not match, or are nested too deep.
        """
        stack: list[list[Any]] = [[]]
        opened: list[int] = []
        for token in _TOKEN.findall(self.content):
            if token == "\n":
                self.line += 1
            elif token == "(":
                if len(stack) > DEEPEST:
                    self.fail(f"brackets are nested more than {DEEPEST} deep")
                stack.append([])
                opened.append(self.line)
            elif token == ")":
                if not opened:
                    self.fail("a bracket is closed that was never opened")
                opened.pop()
                done = stack.pop()
                stack[-1].append(done)
            elif not token.startswith(";"):
                stack[-1].append(Word.at(token, self.line))
            if len(stack) == 1 and stack[0]:
                yield stack[0].pop()
        if opened:
            self.line = opened[0]
            self.fail("a bracket is never closed: the file is truncated")


def line_of(form: Any) -> int | None:
    """Return the line of the first word of a form; None where it has none."""
    if isinstance(form, Word):
        return form.line
    if isinstance(form, list):
        return next((line for part in form if (line := line_of(part)) is not None), None)
    return None


def shortened(form: Any) -> str:
    """Return the beginning of a form as text."""
    text = form if isinstance(form, str) else "(" + " ".join(shortened(part) for part in form[:4]) + ")"
    return text[:60]
