"""Parts of a page. Plain data: the template decides how it looks, and escapes every text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: what a person reads.
        key: where the number stands in the records ("runs/one: models/0/n"), or empty.
        value: the number itself, as the record has it.
        head: whether it heads its row.
        tone: "good", "bad" or "unsure": a colour, never the only sign.
    """

    text: str
    key: str = ""
    value: float | None = None
    head: bool = False
    tone: str = ""


@dataclass(frozen=True)
class Table:
    """A table with a caption; every row is as long as the head."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Figure:
    """A plot and its numbers.

    Attributes:
        svg: the drawing, made by us: the only text that the template does not escape.
        caption: says what is to be seen.
        table: the numbers of the plot.
    """

    svg: str
    caption: str
    table: Table


@dataclass(frozen=True)
class Picture:
    """An adversarial example: three pictures as data URIs, and what is said about them."""

    original: str
    difference: str
    adversarial: str
    title: str
    text: str


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    title: str
    intro: str = ""
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    notes: Sequence[str] = field(default_factory=tuple)
    code: str = ""

    @property
    def anchor(self) -> str:
        """The fragment that links to it."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.title.lower())


@dataclass(frozen=True)
class Line:
    """A line under the title; ``tone`` as of a cell."""

    text: str
    tone: str = ""


@dataclass(frozen=True)
class Page:
    """A whole page.

    Attributes:
        title: its heading.
        lead: lines under it.
        summary: the tables that it begins with.
        sentences: what stands under them.
        sections: the rest, each with a link.
    """

    title: str
    lead: Sequence[Line]
    summary: Sequence[Table]
    sentences: Sequence[str]
    sections: Sequence[Section]


def cells(head: str, *rest: Cell | str) -> list[Cell]:
    """A row whose first cell heads it."""
    return [Cell(head, head=True), *(cell if isinstance(cell, Cell) else Cell(cell) for cell in rest)]
