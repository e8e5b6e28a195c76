"""Sums and means over axes, norms over axes, order statistics, softmax."""

from __future__ import annotations

import math
from typing import Any

from robcert.bounds.lipschitz.call import LipschitzCall, NotFinite
from robcert.bounds.lipschitz.patterns import Mean
from robcert.bounds.lipschitz.rules import rule
from robcert.bounds.lipschitz.values import ONE, Bounds, Value, root
from robcert.math.rounding import up


@rule("mean", "sum", affine=True)
def average(call: LipschitzCall) -> Value:
    """Over n entries: sum sqrt n, n, 1; mean 1 / sqrt n, 1, 1 / n (l2, l-infinity, l1)."""
    x = call.x
    call.same_type("dtype")
    call.ignore("dim", "keepdim")  # the shape of the result says how many entries are summed up
    count = x.size // max(1, math.prod(call.shape))
    n = float(max(1, count))
    if call.op == "sum":
        return call.linear(x, Bounds(root(n), n, 1.0), row="sum" if count > 1 else None, roots=1.0)
    one = count <= 1
    gain = ONE if one else Bounds(up(1 / math.sqrt(n), 2), 1.0, up(1 / n))
    kept = len(call.shape) == len(x.shape)
    patterns: tuple[Any, ...] = (Mean(x, count),) if kept else ()
    return call.linear(x, gain, *patterns, row=None if one else "mean", roots=1.0 if one else up(1 / math.sqrt(n), 2))


@rule("linalg_vector_norm", "norm")
def vector_norm(call: LipschitzCall) -> Value:
    """Over n entries: the l2 norm has constants 1, sqrt n, 1; l1: sqrt n, n, 1; l-infinity: 1, 1, 1."""
    x = call.x
    order = call.get("ord", call.get("p"))
    if "dtype" in call.given:
        call.same_type("dtype")
    call.ignore("dim", "keepdim")  # the shape of the result says how many entries it is the norm of
    order = 2.0 if order is None else float(order)
    n = float(max(1, x.size // max(1, math.prod(call.shape))))
    known = {2.0: Bounds(1.0, root(n), 1.0), 1.0: Bounds(root(n), n, 1.0), math.inf: ONE}
    if order not in known:
        raise NotFinite(f"no constant is known for the {order:g} norm")
    return call.nonlinear(x, known[order], row="norm")


@rule("sort", "topk", "msort")
def sort(call: LipschitzCall) -> Any:
    """Sorting moves no two tensors apart (the rearrangement inequality), in any l_p: 1. GroupSort, MaxMin."""
    if call.op == "topk" and not call["sorted"]:
        raise NotFinite("the order of its entries is not defined: ask for sorted=True")
    call.ignore("dim", "descending", "stable", "largest", "k")  # in whatever order, some of them or all
    value = call.nonlinear(call.x, ONE, row=call.op)
    return value if call.op == "msort" else [value, call.jump()]


@rule("median", "kthvalue")
def order_statistic(call: LipschitzCall) -> Any:
    """One of the sorted entries: 1."""
    call.ignore("dim", "keepdim", "k")  # whichever of the entries
    value = call.nonlinear(call.x, ONE, row=call.op)
    return [value, call.jump()] if call.several else value


@rule("logsumexp")
def logsumexp(call: LipschitzCall) -> Value:
    """Its gradient is a softmax, not negative with sum 1: 1 in all norms."""
    call.ignore("dim", "keepdim")  # over whichever axes
    return call.nonlinear(call.x, ONE, row="logsumexp")


@rule("softmax", "_softmax")
def softmax(call: LipschitzCall) -> Value:
    """diag(s) - s s^T: rows and columns have absolute sums 2 s_i (1 - s_i) <= 1/2; so 1/2 in all norms."""
    half = Bounds(0.5, 0.5, 0.5)
    call.ignore("dim")  # along whichever axis
    call.same_type("dtype", "half_to_float")
    return call.nonlinear(call.x, half, row="softmax")


@rule("log_softmax", "_log_softmax")
def log_softmax(call: LipschitzCall) -> Value:
    """I - 1 s^T over n entries: rows sum to 2 (1 - s_i) <= 2, columns to 1 + (n - 2) s_j <= max(1, n - 1).

    In l2 an oblique projection, whose norm is that of 1 s^T: at most sqrt n (0 where n is 1).
    """
    x = call.x
    call.same_type("dtype", "half_to_float")
    n = x.shape[int(call["dim"]) % len(x.shape)]
    if n == 1:
        return call.nonlinear(x, Bounds(0.0, 0.0, 0.0), row="log_softmax")
    gain = Bounds(root(float(n)), 2.0, float(max(1, n - 1)))
    return call.nonlinear(x, gain, row="log_softmax")
