"""The sources of data sets: the protocol that one fulfils, and the registry of all of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from robcert.preparation import Pipeline, Preparation
from robcert.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

Split = Literal["test", "train"]
SPLITS: tuple[Split, ...] = get_args(Split)

ENVIRONMENT = "ROBCERT_DATA"
"""The environment variable that names the folder of data sets."""


@dataclass(frozen=True)
class Request:
    """The request for a data set.

    Attributes:
        name: the data set as the user wrote it ("mnist", "npz:faces.npz").
        path: what followed the colon, for data sets that are read from a path.
        split: "test" or "train".
        data_dir: the folder that the user named, if any.
        download: whether the network may be used.
        class_order: the numbers of classes that have names only; None: in the order of their names.
        preparation: what the network does to pictures and what it calls its classes; None: nothing is known.
        n, seed: the subset, for a reader that can read a part alone (`robcert.data.subset.chosen`).
    """

    name: str
    split: Split = "test"
    path: Path | None = None
    data_dir: Path | None = None
    download: bool = False
    class_order: Mapping[str, int] | None = None
    preparation: Preparation | None = None
    n: int | None = None
    seed: int = 0

    @property
    def roots(self) -> tuple[Path, ...]:
        """The folders that may hold data sets, in the order in which they are tried.

        A folder that the user named is the only one; otherwise ``$ROBCERT_DATA`` (if set), then
        ``~/.cache/robcert``.
        """
        if self.data_dir is not None:
            return (self.data_dir.expanduser(),)
        named = os.environ.get(ENVIRONMENT)
        cache = Path.home() / ".cache" / "robcert"
        return (Path(named).expanduser(), cache) if named else (cache,)


@dataclass(frozen=True)
class Images:
    """The images and labels that a reader returns, unchecked.

    Attributes:
        x: (n, *shape).
        y: (n,), or (n, 1), or (n, classes) one-hot.
        classes: their names; empty where the labels decide.
        ranked: whether the number of a class is the place of its name, because nobody said it.
        notes: what was decided in reading them, a sentence each.
        index: (n,) the positions of the images in the split, where only the subset was read; None: the whole split.
        order: the numbers of the classes by name, where a network said them.
        pipeline: what was done to the pictures.
    """

    x: Tensor
    y: Tensor
    classes: tuple[str, ...]
    ranked: bool = False
    notes: tuple[str, ...] = ()
    index: Tensor | None = None
    order: Mapping[str, int] | None = None
    pipeline: Pipeline | None = None


Reader = Callable[[Request], Images]
Places = Callable[[Request], list[tuple[Path, bool]]]


def _nowhere(request: Request) -> list[tuple[Path, bool]]:
    """Embedded data sets lie nowhere."""
    del request
    return []


@dataclass(frozen=True)
class Source:
    """A data set that can be read.

    Attributes:
        read: reads one split.
        title: how a table calls it.
        classes: the names of the classes; empty where only the files know.
        shape: the shape of one image; None where only the files know.
        sizes: images per split; empty where only the files know.
        places: every place where the files are looked for, and whether they are there; empty for embedded
            data.
        from_path: whether it is written ``name:PATH``.
        named: whether its classes may have names only, so that their order may be said.
    """

    read: Reader
    title: str
    classes: tuple[str, ...] = ()
    shape: tuple[int, ...] | None = None
    sizes: Mapping[str, int] = field(default_factory=dict[str, int])
    places: Places = _nowhere
    from_path: bool = False
    named: bool = False


datasets: Registry[Source] = Registry("data set", "robcert.data")
"""All data sets by name."""


def dataset(
    name: str,
    *,
    title: str = "",
    classes: tuple[str, ...] = (),
    shape: tuple[int, ...] | None = None,
    sizes: Mapping[str, int] | None = None,
    places: Places = _nowhere,
    from_path: bool = False,
    named: bool = False,
) -> Callable[[Reader], Reader]:
    """Decorator that registers a reader as the data set ``name``; the arguments are those of `Source`."""

    def keep(read: Reader) -> Reader:
        source = Source(read, title or name, classes, shape, sizes or {}, places, from_path, named)
        datasets.register(name)(source)
        return read

    return keep
