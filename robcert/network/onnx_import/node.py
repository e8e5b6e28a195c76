"""One node of an ONNX graph, as the functions of the table see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from torch import Tensor

from robcert.network.onnx_import.values import Extent, Unsupported, Value, extent


@dataclass
class Node:
    """A node with its inputs looked up and its attributes decoded.

    Attributes:
        op: the name of the op.
        version: the opset in which the op got this form.
        name: how messages call the node.
        inputs: None where an optional input is left out.
        outputs: the number of results that somebody may read.
        attributes: by name; see `get`.
        fixed: the number of images that the graph was written for, or None for any number.
        say: takes a notice for the user.
    """

    op: str
    version: int
    name: str
    inputs: tuple[Value | None, ...]
    outputs: int
    attributes: dict[str, Any]
    fixed: int | None
    say: Callable[[str], None]
    read: set[str] = field(default_factory=set[str])

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute. One that the function never asks for is an error: it might have mattered."""
        self.read.add(name)
        return self.attributes.get(name, default)

    def ignore(self, *names: str) -> None:
        """Attributes that change nothing here."""
        self.read.update(names)

    def has(self, index: int) -> bool:
        """Return whether an optional input is given."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def input(self, index: int) -> Value:
        """Return an input that must be there."""
        found = self.inputs[index] if index < len(self.inputs) else None
        if found is None:
            self.refuse(f"its input {index} is missing")
        return found

    @property
    def given(self) -> list[Value]:
        """All inputs, each of which must be there."""
        return [self.input(index) for index in range(len(self.inputs))]

    @property
    def x(self) -> Value:
        """The first input."""
        return self.input(0)

    def tensor(self, index: int, what: str) -> Tensor:
        """Return an input that must be a constant."""
        value = self.input(index)
        if not value.constant:
            self.refuse(f"its {what} is computed from the images, and only a constant is supported")
        return value.probes[0]

    def optional(self, index: int, what: str) -> Tensor | None:
        """Return a constant input that may be missing."""
        return self.tensor(index, what) if self.has(index) else None

    def ints(self, index: int, what: str) -> list[int]:
        """Return a constant input as integers."""
        return [int(v) for v in self.tensor(index, what).reshape(-1).tolist()]

    def extents(self, index: int, what: str) -> list[Extent]:
        """Return an input of sizes, which may depend on the number of images."""
        value = self.input(index)
        if value.computed:
            self.refuse(f"its {what} is computed from the images, and only a constant is supported")
        two, three = (p.reshape(-1).tolist() for p in value.probes)
        return [extent(a, b) for a, b in zip(two, three, strict=True)]

    def axis(self, given: int, rank: int | None = None) -> int:
        """Return an axis counted from the front."""
        rank = self.x.rank if rank is None else rank
        if not -rank <= given < max(rank, 1):
            self.refuse(f"axis {given} does not exist in a tensor with {rank} axes")
        return given % rank if rank else 0

    def axes(self, given: list[int], rank: int | None = None) -> list[int]:
        """Axes counted from the front, ascending."""
        return sorted({self.axis(a, rank) for a in given})

    def spatial(self) -> tuple[int, ...]:
        """Return the sizes behind (images, channels), which must not depend on the number of images."""
        sizes = self.x.shape[2:]
        if not all(s.constant for s in sizes):
            self.refuse("its spatial axes depend on the number of images")
        return tuple(s.fixed for s in sizes)

    def channels(self) -> int:
        """Return the size of axis 1."""
        if self.x.rank < 2 or not self.x.shape[1].constant:
            self.refuse("its input has no axis of channels")
        return self.x.shape[1].fixed

    def lifts(self, value: Value) -> bool:
        """Return whether a value has the batch dimension in front, in a graph that was written for a fixed batch."""
        return self.fixed is not None and bool(value.rank) and value.shape[0].per_image > 0

    def refuse(self, why: str, do: str = "") -> NoReturn:
        """Say that the node cannot be read.

        Raises:
            Unsupported: always.
        """
        raise Unsupported(f"the ONNX node {self.name} ({self.op}) cannot be read: {why}", do)
