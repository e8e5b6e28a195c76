"""One op of the graph, as its rule sees it, and the ways in which a rule may answer."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import torch
from torch import Tensor

from robcert.bounds.lipschitz.layer_row import LayerRow
from robcert.bounds.lipschitz.norms import operator_norm
from robcert.bounds.lipschitz.operators import LinearOperator
from robcert.bounds.lipschitz.papers import paper_norms
from robcert.bounds.lipschitz.patterns import Squares
from robcert.bounds.lipschitz.values import INFINITE, ONE, Bounds, Part, Value, product
from robcert.graph.call import OpCall
from robcert.graph.export import IMAGES
from robcert.math.rounding import up

if TYPE_CHECKING:
    from robcert.bounds.lipschitz.domain import LipschitzDomain


@dataclass(frozen=True)
class LipschitzCall(OpCall[Value]):
    """An op, and how far what it reads moves with the images (see `robcert.graph.call.OpCall`).

    Attributes:
        domain: where rows and earlier values are kept.
    """

    element: ClassVar[type] = Value

    domain: LipschitzDomain = field(kw_only=True)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the result (of its first tensor), for as many images as rules count with."""
        return self.results[0].sizes()

    def unfit(self, found: str) -> NoReturn:
        """Say that the op, used in this way, has no finite constant."""
        raise NotFinite(found)

    # What a rule may return.

    def nonlinear(self, x: Value, gain: Bounds, *patterns: Any, row: str | None = None, note: str = "") -> Value:
        """A function of ``x`` with the constants ``gain``; with ``row`` it is a layer of that name."""
        if row is not None:
            self.row(x, row, gain, note=note)
        return self.domain.value(self, [(x, gain)], x.bounds.times(gain), patterns, part=_then(x.part, gain))

    def linear(
        self,
        x: Value,
        gain: Bounds,
        *patterns: Any,
        links: int = 1,
        row: str | None = None,
        roots: float | None = None,
    ) -> Value:
        """A function that is affine in ``x``.

        Args:
            x: what it reads.
            gain: the norms of its linear part.
            patterns: what the result is.
            links: 0 for an op that only moves entries.
            row: the name of the layer, where it is one.
            roots: max_i sum_o sqrt(A_oi), where neither the linear part A nor the constant has a negative
                entry: then squares stay squares.
        """
        if row is not None:
            self.row(x, row, gain, linear=True)
        squares = x.find(Squares)
        if squares is not None and roots is not None:
            patterns = (
                Squares(
                    squares.of,
                    product(squares.rows, gain.linf),
                    product(squares.columns, gain.l1),
                    product(squares.roots, roots),
                    (*squares.nodes, self.node.name),
                ),
            )
        return self.domain.value(
            self,
            [(x, gain)],
            x.bounds.times(gain),
            patterns,
            links=links,
            part=_then(x.part, gain),
        )

    def operator(self, x: Value, op: LinearOperator, *, label: str | None = None, roots: float | None = None) -> Value:
        """A linear layer: its norms are computed, and it is a row."""
        l2 = operator_norm(op, "l2", tol=self.domain.tol)
        gain = Bounds(l2.upper, operator_norm(op, "linf").upper, operator_norm(op, "l1").upper)
        self.domain.rows[self.node.name] = LayerRow(
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
            papers=paper_norms(op) if self.domain.papers else (),
        )
        return self.linear(x, gain, roots=roots)

    def moved(self, x: Value, *patterns: Any) -> Value:
        """The entries of ``x`` in another order or shape: norms stay, and so do squares."""
        return self.linear(x, ONE, *patterns, links=0, roots=1.0)

    def infinite(self, why: str, *patterns: Any) -> Value:
        """An op that has no finite constant: reported, with the reason."""
        reason = f"{self.layer}: {self.op} has no finite constant ({why})"
        inputs = self.operands
        self.row(inputs[0], self.op, INFINITE, note=why)
        return self.domain.value(
            self, [(v, INFINITE) for v in inputs], INFINITE, patterns, reasons=(reason,), keep=False
        )

    def jump(self) -> Value:
        """A second result that jumps, like the indices of a sort."""
        return self.beside("the indices", "they jump")

    def beside(self, what: str, why: str) -> Value:
        """A result besides the first of which nothing is known."""
        return self.domain.value(
            self,
            [],
            INFINITE,
            reasons=(f"{self.layer}: {what} of {self.op} have no finite constant ({why})",),
            keep=False,
        )

    def row(self, x: Value, label: str, gain: Bounds, *, linear: bool = False, note: str = "") -> None:
        """Makes the op a row of `robcert norms`."""
        self.domain.rows[self.node.name] = LayerRow(
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
    return shape[1:] if shape[:1] == (IMAGES,) else shape
