"""The tensors of an ONNX graph, with what is known about each while the graph is read.

A graph is read for 2 and for 3 images side by side. What comes out the same for both does not depend on the number
of images; a size that differs is ``per_image * n + fixed``. So chains of Shape, Gather, Concat and Reshape, with
which exporters write "the batch dimension", become numbers while the file is read, and the network that is built has
no arithmetic on sizes left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from robcert.errors import EvaluationError

PROBES = (2, 3)
"""The numbers of images that a graph is read for."""


class Unsupported(EvaluationError):
    """A node that cannot become a layer: its op, a setting of it, or a tensor that should have been a constant.

    Attributes:
        node: what it is called, with its op; "" where it is about the whole graph.
    """

    node = ""


@dataclass(frozen=True)
class Extent:
    """A size ``per_image * n + fixed`` of a tensor in a batch of n images."""

    per_image: int
    fixed: int

    def at(self, n: Any) -> Any:
        """Return the size for ``n`` images; ``n`` may be symbolic."""
        return self.per_image * n + self.fixed if self.per_image else self.fixed

    @property
    def constant(self) -> bool:
        """True if it is the same for every batch."""
        return self.per_image == 0


def extent(two: int, three: int) -> Extent:
    """Return the size that is ``two`` for 2 images and ``three`` for 3."""
    per_image = int(three) - int(two)
    return Extent(per_image, int(two) - 2 * per_image)


@dataclass(frozen=True, eq=False)
class Origin:
    """The op that computed a value, with the values and the attributes that it read."""

    op: str = ""
    inputs: tuple[Value | None, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the graph.

    Attributes:
        name: in the file.
        probes: the tensor for 2 and for 3 images: real tensors where ``slot`` is None, else tensors without data.
        slot: the position among the values that are computed when the network runs; None for what is known now.
        origin: the op that computed it.
    """

    name: str
    probes: tuple[Tensor, Tensor]
    slot: int | None = None
    origin: Origin = field(default=Origin(), repr=False)

    @property
    def computed(self) -> bool:
        """True if it is computed when the network runs."""
        return self.slot is not None

    @property
    def constant(self) -> bool:
        """True if it is one tensor, whatever the images and however many they are."""
        return self.slot is None and self.probes[0] is self.probes[1]

    @property
    def rank(self) -> int:
        """The number of axes."""
        return self.probes[0].dim()

    @property
    def shape(self) -> tuple[Extent, ...]:
        """The sizes of the axes."""
        two, three = self.probes
        return tuple(extent(a, b) for a, b in zip(two.shape, three.shape, strict=True))


@dataclass(frozen=True)
class Apply:
    """A layer and what it is called with.

    Attributes:
        layer: an ``nn.Module`` (it becomes a layer of the network) or a function of torch.
        args: `Value` and `Extent` become tensors and sizes when the network runs; everything else is passed on.
    """

    layer: Callable[..., Any]
    args: tuple[Any, ...]


def apply(layer: Callable[..., Any], *args: Any, **options: Any) -> Apply:
    """Return ``layer(*args, **options)`` for when the network runs; the options are plain values."""
    return Apply(partial(layer, **options) if options else layer, args)


def method(name: str) -> Callable[..., Any]:
    """Return ``x.name(*args, **options)`` as a function."""

    def call(x: Any, *args: Any, **options: Any) -> Any:
        return getattr(x, name)(*args, **options)

    return call


def known(name: str, tensor: Tensor) -> Value:
    """Return a constant."""
    return Value(name, (tensor, tensor))


def by_batch(name: str, two: Tensor, three: Tensor) -> Value:
    """Return what is ``two`` for 2 images and ``three`` for 3; a constant where they are equal."""
    return Value(name, (two, two if torch.equal(two, three) else three))


def mapped(function: Callable[[Any], Any], args: Sequence[Any]) -> list[Any]:
    """Return the arguments with ``function`` applied to each, in lists and tuples too."""
    return [mapped(function, arg) if isinstance(arg, list | tuple) else function(arg) for arg in args]  # pyright: ignore[reportUnknownArgumentType]


def flat(args: Sequence[Any]) -> list[Any]:
    """Return the arguments, with lists and tuples taken apart."""
    found: list[Any] = []
    for arg in args:
        found += flat(arg) if isinstance(arg, list | tuple) else [arg]  # pyright: ignore[reportUnknownArgumentType]
    return found
