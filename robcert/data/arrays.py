"""The arrays of an archive that are images, labels and names of classes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from robcert.errors import EvaluationError

_IMAGES = ("x", "images", "image", "imgs", "img", "data", "inputs", "input", "features", "pixels")
_LABELS = ("y", "labels", "label", "targets", "target")
_CLASSES = ("classes", "class_names", "classnames", "label_names", "names")
_SPLITS = {
    "test": ("test", "testing"),
    "train": ("train", "training"),
    "another": ("val", "valid", "validation", "dev", "extra"),
}
_UNNAMED = ("arr_0", "arr_1")
"""What numpy calls the arrays of ``numpy.savez(file, images, labels)``."""


@dataclass(frozen=True)
class Chosen:
    """The names of the arrays of images, labels and (None where there are none) class names."""

    images: str
    labels: str
    classes: str | None

    @property
    def usual(self) -> bool:
        """Return whether they are called x and y."""
        return (self.images, self.labels) == ("x", "y")


def choose(names: Sequence[str], split: str, where: str, advice: str) -> Chosen:
    """The arrays of a split: x and y, or names such as images, x_test, test_labels, arr_0.

    Raises:
        EvaluationError: there are none, or several that may be meant.
    """
    classes = next((name for name in names if name.lower() in _CLASSES), None)
    if set(_UNNAMED) <= set(names) and all(name in (*_UNNAMED, classes) for name in names):
        return Chosen(*_UNNAMED, classes)
    found = [_one(names, words, letter, split, where, advice) for words, letter in ((_IMAGES, "x"), (_LABELS, "y"))]
    return Chosen(found[0], found[1], classes)


def _one(names: Sequence[str], words: Sequence[str], letter: str, split: str, where: str, advice: str) -> str:
    if letter in names:
        return letter
    kinds = {name: kind for name in names if (kind := _kind(name, words)) is not None}
    # Arrays of this split go before those that belong to none.
    for wanted in (split, ""):
        fitting = [name for name, kind in kinds.items() if kind == wanted]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise EvaluationError(
                f"{where} holds several arrays that may be {letter}: {', '.join(fitting)}",
                f"Call the one that is meant {letter}. {advice}",
            )
    others = f" of the split {split!r}" if kinds else ""
    raise EvaluationError(f"{where} holds {', '.join(names) or 'nothing'}, but no array {letter!r}{others}", advice)


def _kind(name: str, words: Sequence[str]) -> str | None:
    """The split that an array belongs to, "" where its name says none; None where it is called otherwise."""
    parts = [
        part
        for part in re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower())
        if part
    ]
    splits = [split for part in parts for split, called in _SPLITS.items() if part in called]
    rest = [part for part in parts if not any(part in called for called in _SPLITS.values())]
    return (splits[0] if splits else "") if len(rest) == 1 and rest[0] in words and len(splits) <= 1 else None
