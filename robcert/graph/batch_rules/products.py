"""Matrix products."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from robcert.graph.batch import BatchCall, batch_rule, broadcast
from robcert.graph.placement import BatchAxis, Placed


@batch_rule("linear")
def linear(call: BatchCall) -> BatchAxis | None:
    """A matrix on the last axis."""
    x = call.first
    call.along(x, [x.rank - 1], "it multiplies their axis by a matrix")
    return call.kept(x)


@batch_rule("addmm", "mm", "matmul", "bmm")
def product(call: BatchCall) -> BatchAxis | None:
    """Matrix products; the axis of the images may be one of those that are left alone, in all operands the same."""
    left, right = (cast("Placed", call.given.get(n, call.given.get(m))) for n, m in _FACTORS)
    rank = len(call.results[0].shape)
    found: list[Placed] = []
    for tensor, summed, kept in ((left, 1, 2), (right, 2 if right.rank > 1 else 1, 1)):
        if tensor.at is None:
            continue
        behind = tensor.rank - tensor.at.axis  # 1: the last axis
        if behind == summed:
            call.mixes("it sums over them")
        if behind > 2:  # one of the axes in front, which broadcast
            at = replace(tensor.at, axis=rank - behind + (left.rank == 1) + (right.rank == 1))
        else:
            at = replace(tensor.at, axis=rank - (behind if right.rank > 1 or tensor is right else behind - 1))
            if behind == kept and any(other.at is not None for other in (left, right) if other is not tensor):
                call.mixes("it multiplies every image with every other")
        found.append(Placed(call.results[0], at))
    bias = call.given.get("self") if call.op == "addmm" else None
    if isinstance(bias, Placed):
        found.append(bias)
    return broadcast(call, found, rank)


_FACTORS = (("mat1", "self"), ("mat2", "other"))


@batch_rule("scaled_dot_product_attention")
def attention(call: BatchCall) -> BatchAxis | None:
    """Every row with every row of one image; the axes in front are left alone."""
    tensors = [t for t in call.tensors if t.at is not None]
    for tensor in tensors:
        call.along(tensor, [tensor.rank - 2, tensor.rank - 1], "it attends over them")
    return broadcast(call, tensors, len(call.results[0].shape))


@batch_rule("einsum")
def einsum(call: BatchCall) -> BatchAxis | None:
    """The letter of the images must stand in the result, and be the same in all operands."""
    equation = str(call["equation"]).replace(" ", "")
    operands, arrow, result = equation.partition("->")
    letters = {
        term[tensor.at.axis]
        for term, tensor in zip(operands.split(","), call.tensors, strict=True)
        if tensor.at is not None and "." not in term
    }
    if not arrow or "." in equation or len(letters) != 1 or not letters <= set(result):
        call.mixes("it sums over them, or its equation is not understood")
    axis = result.index(letters.pop())
    moved = [Placed(call.results[0], replace(t.at, axis=axis)) for t in call.tensors if t.at is not None]
    return broadcast(call, moved, len(result))
