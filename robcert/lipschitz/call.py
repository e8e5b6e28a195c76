"""One op of the graph, as its rule sees it, and the ways in which a rule may answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn, cast

import torch
from torch import Tensor, fx

from robcert.errors import EvaluationError
from robcert.lipschitz.forms import Squares
from robcert.lipschitz.norms import operator_norm
from robcert.lipschitz.operators import LinearOperator
from robcert.lipschitz.papers import paper_norms
from robcert.lipschitz.rows import LayerRow
from robcert.lipschitz.values import INFINITE, ONE, Bounds, Part, Value, product
from robcert.math.rounding import up

if TYPE_CHECKING:
    from robcert.lipschitz.walk import Walk


@dataclass(frozen=True)
class Call:
    """An op whose inputs are known.

    Attributes:
        node: of the graph.
        op: the name of the ATen op, without its overload.
        layer: the path of the layer in the network.
        given: the arguments by the names of the op's schema, defaults filled in. What depends on the images
            is a `Value` (or stands in a list), what does not is a tensor or a Python number.
        walk: where rows and earlier values are kept.
    """

    node: fx.Node
    op: str
    layer: str
    given: dict[str, Any]
    walk: Walk

    def __getitem__(self, name: str) -> Any:
        return self.given[name]

    def get(self, name: str, default: Any = None) -> Any:
        """An argument that not every overload has."""
        return self.given.get(name, default)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the result (of its first tensor)."""
        found = self.node.meta["val"]
        found = found if isinstance(found, torch.Tensor) else found[0]
        return tuple(int(s) for s in found.shape)

    @property
    def values(self) -> list[Value]:
        """All arguments that depend on the images, in order."""
        return [value for name in self.given for value in _flat(self.given[name])]

    @property
    def x(self) -> Value:
        """The one argument that depends on the images.

        Raises:
            NotFinite: there is more than one.
        """
        if len(self.values) != 1:
            raise NotFinite("it combines two tensors that both depend on the input")
        return self.values[0]

    def constant(self, name: str) -> Any:
        """An argument that must not depend on the images.

        Raises:
            NotFinite: it does.
        """
        found = self.given[name]
        if any(True for _ in _flat(found)):
            raise NotFinite(f"its {name} depends on the input")
        return found

    def run(self, replace: Callable[[Value], Tensor], **changes: Any) -> Any:
        """The op itself, on other tensors in place of the values."""
        given = {name: _put(changes.get(name, value), replace) for name, value in self.given.items()}
        target = cast("Any", self.node.target)
        positional = [a.name for a in target._schema.arguments if not a.kwarg_only]
        return target(*(given[n] for n in positional), **{n: v for n, v in given.items() if n not in positional})

    def refuse(self, found: str, do: str = "") -> NoReturn:
        """Ends the walk with an error that names the op and the layer."""
        raise EvaluationError(f"{self.op} in layer {self.layer}: {found}", do)

    # What a rule may return.

    def nonlinear(self, x: Value, gain: Bounds, *forms: Any, row: str | None = None, note: str = "") -> Value:
        """A function of ``x`` with the constants ``gain``; with ``row`` it is a layer of that name."""
        if row is not None:
            self.row(x, row, gain, note=note)
        return self.walk.value(self, [(x, gain)], x.bounds.times(gain), forms, part=_then(x.part, gain))

    def linear(
        self,
        x: Value,
        gain: Bounds,
        *forms: Any,
        links: int = 1,
        row: str | None = None,
        roots: float | None = None,
    ) -> Value:
        """A function that is affine in ``x``.

        Args:
            x: what it reads.
            gain: the norms of its linear part.
            forms: what the result is.
            links: 0 for an op that only moves entries.
            row: the name of the layer, where it is one.
            roots: max_i sum_o sqrt(A_oi), where neither the linear part A nor the constant has a negative
                entry: then squares stay squares.
        """
        if row is not None:
            self.row(x, row, gain, linear=True)
        squares = x.find(Squares)
        if squares is not None and roots is not None:
            forms = (
                Squares(
                    squares.of,
                    product(squares.rows, gain.linf),
                    product(squares.columns, gain.l1),
                    product(squares.roots, roots),
                    (*squares.nodes, self.node.name),
                ),
            )
        return self.walk.value(
            self,
            [(x, gain)],
            x.bounds.times(gain),
            forms,
            links=links,
            part=_then(x.part, gain),
        )

    def operator(self, x: Value, op: LinearOperator, *, label: str | None = None, roots: float | None = None) -> Value:
        """A linear layer: its norms are computed, and it is a row."""
        l2 = operator_norm(op, "l2", tol=self.walk.tol)
        gain = Bounds(l2.upper, operator_norm(op, "linf").upper, operator_norm(op, "l1").upper)
        self.walk.rows[self.node.name] = LayerRow(
            name=self.layer,
            op=label or self.op,
            in_shape=op.in_shape,
            out_shape=op.out_shape,
            l1=gain.l1,
            linf=gain.linf,
            l2_lower=l2.lower,
            l2_upper=l2.upper,
            linear=True,
            method=l2.method,
            papers=paper_norms(op) if self.walk.papers else (),
        )
        return self.linear(x, gain, roots=roots)

    def moved(self, x: Value, *forms: Any) -> Value:
        """The entries of ``x`` in another order or shape: norms stay, and so do squares."""
        return self.linear(x, ONE, *forms, links=0, roots=1.0)

    def infinite(self, why: str, *forms: Any) -> Value:
        """An op that has no finite constant: reported, with the reason."""
        reason = f"{self.layer}: {self.op} has no finite constant ({why})"
        inputs = self.values
        self.row(inputs[0], self.op, INFINITE, note=why)
        return self.walk.value(self, [(v, INFINITE) for v in inputs], INFINITE, forms, reasons=(reason,), keep=False)

    def jump(self) -> Value:
        """A second result that jumps, like the indices of a sort."""
        return self.walk.value(
            self,
            [],
            INFINITE,
            reasons=(f"{self.layer}: the indices of {self.op} have no finite constant (they jump)",),
            keep=False,
        )

    def row(self, x: Value, label: str, gain: Bounds, *, linear: bool = False, note: str = "") -> None:
        """Makes the op a row of `robcert norms`."""
        self.walk.rows[self.node.name] = LayerRow(
            name=self.layer,
            op=label,
            in_shape=_image(x.shape),
            out_shape=_image(self.shape),
            l1=gain.l1,
            linf=gain.linf,
            l2_lower=None,
            l2_upper=gain.l2,
            linear=linear,
            note=note,
        )


class NotFinite(Exception):
    """Raised inside a rule: the op, used in this way, has no finite constant."""


def scalar(value: float) -> float:
    """|value|, as Python holds it or as float32 executes it, whichever is larger."""
    return max(abs(float(value)), abs(float(torch.tensor(float(value), dtype=torch.float32))))


def largest(values: Tensor) -> float:
    """The largest absolute value of a constant tensor; 0 for an empty one."""
    return float(values.double().abs().max()) if values.numel() else 0.0


def inverse(value: float) -> float:
    """1 / |value|, rounded up; infinite for 0."""
    return math.inf if value == 0 else 1.0 if abs(value) == 1 else up(1 / abs(value))


def _then(part: Part | None, gain: Bounds) -> Part | None:
    if part is None:
        return None
    return replace(part, gain=part.gain.times(gain))


def _image(shape: tuple[int, ...]) -> tuple[int, ...]:
    from robcert.network.graph import BATCH

    return shape[1:] if shape[:1] == (BATCH,) else shape


def _flat(given: Any) -> Iterator[Value]:
    if isinstance(given, Value):
        yield given
    elif isinstance(given, list | tuple):
        for item in cast("list[Any]", given):
            yield from _flat(item)


def _put(given: Any, replace: Callable[[Value], Tensor]) -> Any:
    if isinstance(given, Value):
        return replace(given)
    if isinstance(given, list | tuple):
        return [_put(item, replace) for item in cast("list[Any]", given)]
    return given
