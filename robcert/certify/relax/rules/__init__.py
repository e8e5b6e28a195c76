"""How each op of an exported graph is relaxed; one file a family, one registered function a rule.

A rule takes a `Site` and returns a step (a list of them, or of None, for an op with several results). It is found by
the name of the ATen op, without its overload::

    @relaxation("relu")
    def relu(site: Site) -> Step: ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar, cast

import torch
from torch import Tensor, fx

from robcert.errors import EvaluationError
from robcert.network.graph import BATCH
from robcert.registry import Registry


@dataclass(frozen=True)
class Ref:
    """A value that depends on the images: its name, and its shape without the axis of the images (the first)."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Site:
    """An op of the graph.

    Attributes:
        node: of the graph.
        op: the name of the ATen op, without its overload.
        layer: the path of the layer in the network.
        given: the arguments by the names of the op's schema; a `Ref` for what depends on the images, float64 tensors
            and Python numbers for what does not.
    """

    node: fx.Node
    op: str
    layer: str
    given: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.given[name]

    def get(self, name: str, default: Any = None) -> Any:
        """An argument that not every overload has."""
        return self.given.get(name, default)

    @property
    def refs(self) -> list[Ref]:
        """All arguments that depend on the images."""
        return [ref for value in self.given.values() for ref in _refs(value)]

    @property
    def x(self) -> Ref:
        """The one argument that depends on the images."""
        if len(self.refs) != 1:
            self.refuse("it combines several tensors that depend on the input")
        return self.refs[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the (first) result, one image."""
        found = self.node.meta["val"]
        return self.image_shape(found if isinstance(found, Tensor) else found[0])

    def image_shape(self, value: Tensor) -> tuple[int, ...]:
        """The shape without the axis of the images, which has to be the first."""
        shape = tuple(int(s) for s in value.shape)
        if shape[:1] != (BATCH,):
            self.refuse("it moves the axis of the images away from the front")
        return shape[1:]

    @property
    def head(self) -> tuple[str, str, tuple[str, ...], tuple[int, ...]]:
        """The first four fields of a step."""
        return self.node.name, self.layer, tuple(ref.name for ref in self.refs), self.shape

    def constant(self, name: str) -> Any:
        """An argument that must not depend on the images."""
        if any(True for _ in _refs(self.given[name])):
            self.refuse(f"its {name} depends on the input")
        return self.given[name]

    def run(self, x: Tensor, **changes: Any) -> Any:
        """The op itself, on any number of images in place of the one value that it reads."""
        given = {name: _put(changes.get(name, value), x) for name, value in self.given.items()}
        target = cast("Any", self.node.target)
        positional = [a.name for a in target._schema.arguments if not a.kwarg_only]
        return target(*(given[n] for n in positional), **{n: v for n, v in given.items() if n not in positional})

    def refuse(self, found: str) -> NoReturn:
        """Ends the compilation with an error that names the op and the layer."""
        raise EvaluationError(
            f"no linear relaxation of {self.op} in layer {self.layer}: {found}",
            "Use --method gap or smoothing for this network, or attack it with --certify gap.",
        )


Rule = Callable[[Site], Any]
R = TypeVar("R", bound=Rule)

relaxations: Registry[Rule] = Registry("relaxation", "robcert.certify.relax.rules")
"""Name of an ATen op -> its rule."""


def relaxation(*names: str) -> Callable[[R], R]:
    """Decorator that registers one rule for the named ops."""

    def keep(function: R) -> R:
        for name in names:
            relaxations.register(name)(function)
        return function

    return keep


def _refs(given: Any) -> Iterator[Ref]:
    if isinstance(given, Ref):
        yield given
    elif isinstance(given, list | tuple):
        for item in cast("list[Any]", given):
            yield from _refs(item)


def _put(given: Any, x: Tensor) -> Any:
    if isinstance(given, Ref):
        return x
    if isinstance(given, list | tuple):
        return [_put(item, x) for item in cast("list[Any]", given)]
    return given


def number(value: Any) -> float:
    """A Python number, or a tensor of one entry."""
    return float(value.reshape(()) if isinstance(value, torch.Tensor) else value)
