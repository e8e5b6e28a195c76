"""What a network expects of a picture before it sees it, and what it calls its classes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from robcert.errors import UsageError

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
WORDNET = re.compile(r"n\d{8}", re.ASCII)
"""The form of a WordNet id, as ImageNet calls its classes."""


@dataclass(frozen=True)
class Pipeline:
    """How a picture of any size becomes the input of a network: resized, then cropped in its centre.

    The normalisation is no part of it: it stands in the network, so that budgets are in units of the pixels.

    Attributes:
        resize: (s,): the shorter side becomes s pixels; (height, width): both sides; (): as it is.
        crop: (height, width) of the centre that is kept; None: all of it.
        interpolation: between pixels.
        antialias: whether shrinking takes the mean over the pixels that fall on one.
        library: whose arithmetic: torchvision and timm resize bytes with Pillow and round the place of the crop;
            transformers resizes bytes as a tensor and rounds that place down.
    """

    resize: tuple[int, ...] = ()
    crop: tuple[int, int] | None = None
    interpolation: Interpolation = "bilinear"
    antialias: bool = True
    library: Literal["torchvision", "timm", "transformers"] = "torchvision"

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    @property
    def size(self) -> tuple[int, int] | None:
        """The height and width of what comes out; None where that depends on the picture."""
        return self.crop or ((self.resize[0], self.resize[1]) if len(self.resize) == 2 else None)

    def at(self, size: tuple[int, int]) -> Pipeline:
        """Return the pipeline for inputs of another height and width, with the same share cropped away."""
        now = self.size
        if now is None or now == size:
            return self
        share = (size[0] / now[0], size[1] / now[1])
        parts = share if len(self.resize) == 2 else (max(share),)
        resize = tuple(round(side * part) for side, part in zip(self.resize, parts, strict=len(self.resize) == 2))
        return replace(self, resize=resize, crop=None if self.crop is None else size)

    def __str__(self) -> str:
        """In words: "resized to 256 (bilinear), centre 224x224"."""
        sides = "x".join(map(str, self.resize))
        parts = [f"resized to {sides} ({self.interpolation})"] if self.resize else []
        if self.crop is not None:
            parts.append(f"centre {self.crop[0]}x{self.crop[1]}")
        return ", ".join(parts) or "as they are"


@dataclass(frozen=True)
class Labels:
    """The classes of a network: names that people read, and identifiers where there are any.

    Attributes:
        names: by class; empty where they are not known.
        ids: by class (WordNet ids); empty where there are none.
    """

    names: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def numbers(self) -> Mapping[str, int]:
        """Return what each class may be called -> its number: its id, its name, the synonyms in it, its number.

        Case, spaces, underscores and hyphens make no difference (`plain`). What several classes are called is left
        out.
        """
        found: dict[str, int] = {}
        taken: Counter[str] = Counter()
        for number, name in enumerate(self.names):
            words = {plain(word) for word in (name, *name.split(","))} - {""}
            taken.update(words)
            found |= dict.fromkeys(words, number)
        known = {word: number for word, number in found.items() if taken[word] == 1}
        known |= {str(number): number for number in range(len(self.names or self.ids))}
        return known | {plain(name): number for number, name in enumerate(self.ids)}


@dataclass(frozen=True)
class Preparation:
    """What is known of the pictures and the classes of some networks.

    Attributes:
        model: how a message calls the network.
        pipeline: None: pictures have the size of its input already.
        labels: of its classes.
    """

    model: str
    pipeline: Pipeline | None = None
    labels: Labels = field(default_factory=Labels)


def agreed(found: Sequence[Preparation | None]) -> Preparation | None:
    """Return what several networks that see the same pictures have in common: all of it.

    Raises:
        UsageError: they prepare pictures in different ways, or have other classes.
    """
    first, *others = found
    for other in others:
        here, there = (None if one is None else (one.pipeline, one.labels.names) for one in (first, other))
        if here != there:
            names = " and ".join(one.model if one else "another" for one in (first, other))
            raise UsageError(
                f"{names} prepare pictures in different ways, or have other classes",
                "Run them one at a time, or give pictures of their size as npz:PATH.",
            )
    return first


def plain(name: str) -> str:
    """Return the name of a class without case and signs: "Great_White-shark" and "great white shark" are one."""
    return " ".join(re.split(r"[\s_\-]+", name.strip().casefold()))


def synonyms(name: str) -> set[str]:
    """Return the names in "tench, Tinca tinca", in the form of `plain`."""
    return {plain(word) for word in name.split(",")}


def same_classes(names: Iterable[str], others: Iterable[str]) -> bool:
    """Return whether two lists name the same classes in the same order: nine in ten have a synonym in common."""
    pairs = [bool(synonyms(one) & synonyms(other)) for one, other in zip(names, others, strict=True)]
    return sum(pairs) >= 0.9 * len(pairs)
