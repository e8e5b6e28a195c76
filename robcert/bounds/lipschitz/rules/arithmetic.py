"""Scaling, and the ops that make and undo squares."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from robcert.bounds.lipschitz.call import LipschitzCall, NotFinite, inverse, largest, scalar
from robcert.bounds.lipschitz.entrywise import multiplied
from robcert.bounds.lipschitz.patterns import Absolute, Negation, Sign, Squares
from robcert.bounds.lipschitz.rules import rule
from robcert.bounds.lipschitz.rules.activations import slope
from robcert.bounds.lipschitz.values import Bounds, Value, product, root, same
from robcert.math.rounding import gamma, up

PRODUCT = "it multiplies two tensors that both depend on the input"


@rule("neg")
def negate(call: LipschitzCall) -> Value:
    """-x: 1."""
    return scaled(call, call.x, -1.0)


@rule("mul")
def multiply(call: LipschitzCall) -> Value:
    """c x: |c|, the largest over the entries of c; x x is a square."""
    values = call.operands
    if len(values) == 2:
        if values[0].node == values[1].node:
            return square(call)
        for sign, other in (values, values[::-1]):
            if _is_sign_of(sign, other):  # lp_pool2d
                call.domain.rows.pop(sign.node, None)
                return call.moved(other)
        raise NotFinite(PRODUCT)
    x = call.only("self", "other")
    constant = call["other"] if isinstance(call["self"], Value) else call["self"]
    if not isinstance(constant, Tensor):
        return scaled(call, x, float(constant))
    value = weighted(call, x, constant.double()) if constant.dim() > 0 else scaled(call, x, float(constant))
    return multiplied(call, x, constant, value)


@rule("div")
def divide(call: LipschitzCall) -> Value:
    """x / c: the largest 1 / |c|. x / (|x| + c) is softsign: 1 / c."""
    if call.get("rounding_mode") is not None:
        raise NotFinite("it rounds")
    x, divisor = call["self"], call["other"]
    if isinstance(divisor, Value):
        absolute = divisor.find(Absolute)
        if isinstance(x, Value) and absolute and absolute.of.node == x.node and absolute.offset > 0:
            call.domain.rows.pop(divisor.sources[0][0], None)
            gain = same(inverse(absolute.offset))  # the slope is c / (|x| + c)^2
            return call.nonlinear(x, gain, slope(x, 0.0, gain.l2), row="softsign")
        raise NotFinite("it divides by a tensor that depends on the input")
    if isinstance(divisor, Tensor) and divisor.dim() > 0:
        if not bool((divisor != 0).all()):
            raise NotFinite("it divides by 0")
        return weighted(call, call.x, 1 / divisor.double())
    if float(divisor) == 0:
        raise NotFinite("it divides by 0")
    rounded = float(torch.tensor(float(divisor), dtype=torch.float32)) or float(divisor)
    factor = max(inverse(float(divisor)), inverse(rounded))
    return scaled(call, call.x, factor if float(divisor) > 0 else -factor)


@rule("square")
def square(call: LipschitzCall) -> Value:
    """x^2 has no finite constant, but the root of a sum of squares has: norm-pooling."""
    x = call.operands[0]
    return call.infinite("the slope of a square grows without end", Squares(x, 1.0, 1.0, 1.0, (call.node.name,)))


@rule("pow")
def power(call: LipschitzCall) -> Value:
    """x^1, x^2 and the root of squares; other powers have no finite constant."""
    exponent = call["exponent"]
    if not isinstance(exponent, int | float):
        raise NotFinite("its exponent is a tensor")
    if exponent == 2:
        return square(call)
    if exponent == 0.5:
        return square_root(call)
    if exponent == 1:
        return call.moved(call.x)
    raise NotFinite(f"the slope of x^{exponent:g} has no bound")


@rule("sqrt")
def square_root(call: LipschitzCall) -> Value:
    """The root of sums of squares: norm-pooling and its relatives (see `robcert.bounds.lipschitz.patterns.Squares`)."""
    squares = call.only().find(Squares)
    if squares is None:
        raise NotFinite("the slope of a root grows without end at 0")
    x = call.domain.latest(squares.of)
    for node in squares.nodes:
        call.domain.rows.pop(node, None)
    gain = Bounds(root(squares.columns), root(squares.rows), squares.roots)
    return call.nonlinear(x, gain, row="norm_pool")


@rule("sign", "sgn")
def sign(call: LipschitzCall) -> Value:
    """Jumps at 0."""
    x = call.x
    return call.infinite("it jumps at 0", *((Sign(x),) if x.find(Squares) else ()))


def scaled(call: LipschitzCall, x: Value, factor: float) -> Value:
    """``factor`` x."""
    size = scalar(factor)
    patterns: list[Any] = [slope(x, *sorted((factor, math.copysign(_float32(factor), factor))))]
    if factor == -1:
        patterns.append(Negation(x))
    return call.linear(
        x,
        same(size),
        *patterns,
        links=0,
        row=None if size == 1 else "scale",
        roots=root(size) if factor >= 0 else None,
    )


def weighted(call: LipschitzCall, x: Value, constant: Tensor) -> Value:
    """An entry of the result is an entry of ``constant`` times one of ``x``, both broadcast.

    l-infinity: the largest |c|; l1 and l2: sum, and root of the sum of squares, over the copies of an entry.
    """
    full = constant.expand(call.shape)
    if full.numel() == 0:
        return call.linear(x, same(0.0))
    copies = full.numel() // max(1, x.size)
    if copies == 1:
        gain = same(up(largest(full), 2))
    else:
        factor = 1 + 2 * gamma(copies + 4)
        l1 = float(full.abs().sum_to_size(x.shape).max()) * factor
        l2 = float(full.square().sum_to_size(x.shape).max().sqrt()) * factor
        gain = Bounds(l2, up(largest(full), 2), l1)
    roots = product(float(copies), root(gain.linf)) if bool((constant >= 0).all()) else None
    return call.linear(x, gain, row="scale", roots=roots)


def _float32(value: float) -> float:
    return abs(float(torch.tensor(value, dtype=torch.float32)))


def _is_sign_of(one: Value, other: Value) -> bool:
    """Return whether ``one`` is the sign of what ``other`` is the absolute value of: squares, which have none."""
    sign, squares = one.find(Sign), other.find(Squares)
    origin = sign.of.find(Squares) if sign else None
    if origin is None or squares is None or origin.of.node != squares.of.node:
        return False
    same_matrix = (origin.rows, origin.columns, origin.roots) == (
        squares.rows,
        squares.columns,
        squares.roots,
    )
    return same_matrix and squares.nodes[: len(origin.nodes)] == origin.nodes
