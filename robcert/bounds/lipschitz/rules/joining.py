"""Ops that bring several values together: concatenation, sums, the larger of two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from robcert.bounds.lipschitz.call import LipschitzCall, scalar
from robcert.bounds.lipschitz.concatenation import concatenated, concatenated_part, sum_part
from robcert.bounds.lipschitz.entrywise import added
from robcert.bounds.lipschitz.patterns import (
    Absolute,
    Complement,
    Extreme,
    Mean,
    Mirror,
    Negation,
    Slope,
    Squares,
    two_sided,
)
from robcert.bounds.lipschitz.rules import rule
from robcert.bounds.lipschitz.rules.activations import elementwise
from robcert.bounds.lipschitz.rules.arithmetic import scaled
from robcert.bounds.lipschitz.values import INFINITE, ONE, Bounds, Value, copied, product, root, same
from robcert.math.rounding import up


@rule("cat", "concat", "concatenate", "stack", affine=True)
def concatenate(call: LipschitzCall) -> Value:
    """Root of the sum of squares (l2), largest (l-infinity), sum (l1); less for what belongs together."""
    values = call.operands
    call.ignore("dim")  # beside one another, wherever
    bounds = concatenated(call.domain, values)
    patterns: tuple[Any, ...] = ()
    if len(values) == len(call["tensors"]) == 2:
        one, other = values
        for a, b in ((one, other), (other, one)):
            negation = b.find(Negation)
            if negation is not None and negation.of.node == a.node:
                patterns = (Mirror(a),)
    both = two_sided(values)
    if both is not None:
        call.row(both, "two-sided relu", ONE)
    # A pair that moves less than its members do is worth more as a value of its own.
    nonlinear = both is not None or any(v.find(Extreme) or v.find(Complement) for v in values)
    return call.domain.value(
        call,
        [(v, ONE) for v in values],
        bounds,
        patterns,
        links=None if nonlinear else 0,
        part=concatenated_part(values),
    )


@rule("add", "sub", "rsub", affine=True)
def add(call: LipschitzCall) -> Value:
    """Sums: the constants add up, in general; a constant moves nothing."""
    values = call.operands
    sign = -1.0 if call.op in ("sub", "rsub") else 1.0
    alpha = float(call.get("alpha", 1) or 0.0) if call.get("alpha", 1) is not None else 1.0
    if len(values) == 1:
        return _shifted(call, values[0], sign, alpha)
    first, second = (broadcast(call, v) for v in values)
    if call.op == "rsub":
        first, second = second, first
    if alpha != 1:
        return _sum(call, [(first, ONE), (second, same(scalar(alpha)))])
    if call.op != "add":
        found = _difference(call, first, second)
        if found is not None:
            return found
    bounds = _sum(call, [(first, ONE), (second, ONE)])
    return _by_slopes(call, bounds, first, second, sign)


@rule("maximum", "minimum", "max", "min")
def extreme(call: LipschitzCall) -> Value | list[Any]:
    """|max(a, b) - max(c, d)| <= max(|a - c|, |b - d|): no more than both together."""
    if call.get("other") is None:
        from robcert.bounds.lipschitz.rules.pooling import over_dims

        return over_dims(call)
    values = call.operands
    if len(values) == 1:
        call.ignore("self", "other")  # whatever the constant is, the larger of both moves no more
        x = broadcast(call, values[0])
        return elementwise(call, x, 0.0, 1.0)
    first, second = (broadcast(call, v) for v in values)
    bounds = concatenated(call.domain, [first, second])
    patterns: tuple[Any, ...] = (Extreme((first, second), call.op in ("maximum", "max")),)
    slope = _one_of(call, first, second)
    if slope is not None:
        bounds, patterns = bounds.smallest(_steepest(slope)), (*patterns, slope)
    return call.domain.value(
        call, [(v, ONE) for v in (first, second)], bounds, patterns, part=concatenated_part([first, second])
    )


@rule("where")
def where(call: LipschitzCall) -> Value:
    """A fixed choice between two values."""
    call.constant("condition")
    values = call.operands
    call.ignore("self", "other")  # a constant among them moves nothing
    copies = [broadcast(call, v) for v in values]
    bounds = concatenated(call.domain, copies)
    slope = _one_of(call, *copies) if len(copies) == 2 else None
    patterns = () if slope is None else (slope,)
    if slope is not None:
        bounds = bounds.smallest(_steepest(slope))
    return call.domain.value(call, [(v, ONE) for v in copies], bounds, patterns, part=concatenated_part(copies))


@rule("expand_as", affine=True)
def expand_as(call: LipschitzCall) -> Value:
    """Copies of entries, as many as the other tensor's shape asks for; its entries play no part."""
    call.ignore("other")
    return call.linear(broadcast(call, call.first), ONE, links=0)


def broadcast(call: LipschitzCall, x: Value) -> Value:
    """``x`` in the shape of the result: each entry is copied as often as the sizes say."""
    size = math.prod(call.shape)
    if x.size == size or x.size == 0:
        return x
    gain = copied(size // x.size)
    return call.domain.value(
        call,
        [(x, gain)],
        x.bounds.times(gain),
        links=1,
        name=f"{x.node}/{call.node.name}",
    )


def _shifted(call: LipschitzCall, x: Value, sign: float, alpha: float) -> Value:
    """x plus a constant, or a constant minus x."""
    this = call["self"] if isinstance(call["self"], Value) else call["other"]
    constant = call["other"] if this is call["self"] else call["self"]
    factor = 1.0
    if call.op == "rsub":
        factor = -alpha if this is call["self"] else 1.0
    elif this is call["other"]:
        factor = sign * alpha
    x = broadcast(call, x)
    if abs(factor) != 1:
        return scaled(call, replace(x, patterns=()), factor)
    patterns: list[Any] = []
    slope = x.find(Slope)
    low, high = (slope.low, slope.high) if slope else (1.0, 1.0)
    of = slope.of if slope else x
    patterns.append(Slope(of, *((low, high) if factor > 0 else (-high, -low))))
    nothing = not isinstance(constant, Tensor) and float(constant) == 0
    if factor < 0 and nothing:
        patterns.append(Negation(x))
    smallest = float(constant.min()) if isinstance(constant, Tensor) else float(constant)
    # + e with e >= 0, and not - e or + alpha e
    positive = factor > 0 and call.op == "add" and alpha == 1 and smallest >= 0
    absolute, squares = x.find(Absolute), x.find(Squares)
    if positive and absolute and not isinstance(constant, Tensor):
        patterns.append(Absolute(absolute.of, absolute.offset + float(constant)))
    if squares is not None and not positive:
        return call.domain.value(call, [(x, ONE)], x.bounds, links=0, part=x.part)
    return call.linear(x, ONE, *patterns, links=0, roots=1.0)


def _sum(call: LipschitzCall, terms: Sequence[tuple[Value, Bounds]]) -> Value:
    """The constants add up; no sum moves more than sqrt 2 (l2), 2, once (l1) what both do together."""
    latest = [(call.domain.latest(v), gain) for v, gain in terms]
    bounds = latest[0][0].bounds.times(latest[0][1])
    for value, gain in latest[1:]:
        bounds = bounds.plus(value.bounds.times(gain))
    if all(gain == ONE for _, gain in latest):
        both = concatenated(call.domain, [v for v, _ in latest])
        bounds = bounds.smallest(Bounds(product(root(2.0), both.l2), product(2.0, both.linf), both.l1))
        if len(latest) == 2:
            bounds = bounds.smallest(replace(INFINITE, l2=added(call, latest[0][0], latest[1][0])))
    return call.domain.value(
        call,
        [(v, gain) for v, gain in latest],
        bounds,
        links=0,
        part=sum_part([v for v, _ in latest]) if all(g == ONE for _, g in latest) else None,
    )


def _difference(call: LipschitzCall, first: Value, second: Value) -> Value | None:
    """x minus its mean: 1 in l2 (a projection), 2 - 2 / n in l1 and l-infinity."""
    mean = second.find(Mean) or _broadcast_mean(call, second)
    if mean is None or mean.of.node != first.node:
        return None
    x = call.domain.latest(first)
    other = 0.0 if mean.count == 1 else up(2 - 2 / mean.count)
    gain = Bounds(0.0 if mean.count == 1 else 1.0, other, other)
    call.row(x, "mean subtraction", gain, linear=True)
    return call.domain.value(
        call,
        [(x, ONE), (second, ONE)],  # as it is executed: the mean is taken and subtracted
        x.bounds.times(gain),
        links=1,
        part=None,
    )


def _broadcast_mean(call: LipschitzCall, value: Value) -> Mean | None:
    """The mean that a broadcast value was, if its axes line up."""
    name, _, rest = value.node.partition("/")
    origin = call.domain.values.get(name) if rest else None
    if not isinstance(origin, Value):
        return None
    mean = origin.find(Mean)
    aligned = mean is not None and len(origin.shape) == len(mean.of.shape) and mean.of.shape == call.shape
    return mean if aligned else None


def _by_slopes(call: LipschitzCall, value: Value, first: Value, second: Value, sign: float) -> Value:
    """x and functions of x, added or subtracted: their slopes are."""
    found = _same_base(first, second)
    if found is None or found[0].of.shape != value.shape:
        return value
    one, other = found
    low, high = (other.low, other.high) if sign > 0 else (-other.high, -other.low)
    low, high = one.low + low, one.high + high
    exact = {one.low, one.high, other.low, other.high} <= {0.0, 1.0, -1.0, 2.0, -2.0}
    if not exact:
        low, high = math.nextafter(low, -math.inf), math.nextafter(high, math.inf)
    base = call.domain.latest(one.of)
    gain = same(max(abs(low), abs(high)))
    patterns: tuple[Any, ...] = (Slope(base, low, high),)
    if sign < 0:
        for x, f in ((first, second), (second, first)):
            inner = f.find(Slope)
            if inner is not None and inner.of.node == x.node and inner.low >= 0 and inner.high <= 1:
                patterns = (*patterns, Complement(x, f.node))
    bounds = value.bounds.smallest(base.bounds.times(gain))
    return call.domain.value(
        call, [(call.domain.latest(v), ONE) for v in (first, second)], bounds, patterns,
        links=0, part=value.part,
    )  # fmt: skip


def _same_base(first: Value, second: Value) -> tuple[Slope, Slope] | None:
    """Two values as elementwise functions of one, if they are: of a common ancestor, or one of the other."""
    a, b = (v.find(Slope) or Slope(v, 1.0, 1.0) for v in (first, second))
    for one, other in ((a, b), (Slope(first, 1.0, 1.0), b), (a, Slope(second, 1.0, 1.0))):
        if one.of.node == other.of.node:
            return one, other
    return None


def _one_of(call: LipschitzCall, first: Value, second: Value) -> Slope | None:
    """The result if each of its entries is one of two functions of an entry: leaky ReLU as max(x, c x)."""
    found = _same_base(first, second)
    if found is None or found[0].of.size != first.size:
        return None
    one, other = found
    return Slope(call.domain.latest(one.of), min(one.low, other.low), max(one.high, other.high))


def _steepest(slope: Slope) -> Bounds:
    return slope.of.bounds.times(same(max(abs(slope.low), abs(slope.high))))
