"""Products of two values, and attention, which consists of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from robcert.bounds.linear.affine import Dense
from robcert.bounds.linear.bilinear import Bilinear
from robcert.bounds.linear.rules import LinearCall, Ref, relaxation
from robcert.bounds.linear.softmax import Softmax
from robcert.bounds.linear.step import Step


@relaxation("addmm", "mm", "matmul", "bmm")
def matrix_product(call: LinearCall) -> Step:
    """x W with a constant matrix W; or of two values."""
    left, right = (call.get(n, call.get(m)) for n, m in (("mat1", "self"), ("mat2", "other")))
    if isinstance(left, Ref) and isinstance(right, Ref) and call.op != "addmm":
        if len(left.shape) != len(right.shape) or len(left.shape) < 2:
            call.refuse("it multiplies tensors of different numbers of axes that both depend on the input")
        return bilinear(call, left, right, torch.matmul, left.shape[-1])
    if not isinstance(left, Ref) or not isinstance(right, Tensor) or right.dim() != 2:
        call.refuse("only the product of the input with a constant matrix is known")
    bias = None
    if call.op == "addmm":
        if call["beta"] != 1 or call["alpha"] != 1 or isinstance(call["self"], Ref) or call["self"].dim() > 1:
            call.refuse("its factors are not 1, or its bias is no vector")
        bias = cast("Tensor", call["self"]).double()
    constant = torch.zeros(right.shape[1], dtype=torch.float64) if bias is None else bias.expand(right.shape[1])
    return Dense(*call.head, right.T.contiguous(), constant)


@relaxation("einsum")
def einsum(call: LinearCall) -> Step:
    """Of two values, the images first everywhere."""
    equation, tensors = str(call["equation"]).replace(" ", ""), cast("list[Any]", call["tensors"])
    call.ignore("path")  # an order of products
    if len(tensors) != 2 or not all(isinstance(one, Ref) for one in tensors):
        call.refuse("only that of two tensors that depend on the input is known")
    one, other = cast("list[Ref]", tensors)
    operands, _, result = equation.partition("->")
    terms = operands.split(",")
    if "." in equation or len({*(term[0] for term in terms), result[:1]}) != 1:
        call.refuse("its equation does not have the images first everywhere")
    if any(len(set(term)) < len(term) for term in terms):
        call.refuse("it takes a diagonal")
    sizes = dict(zip(terms[0][1:], one.shape, strict=True)) | dict(zip(terms[1][1:], other.shape, strict=True))
    summed = math.prod(size for letter, size in sizes.items() if letter not in result)
    return bilinear(call, one, other, lambda a, b: torch.einsum(equation, a, b), summed)


@relaxation("scaled_dot_product_attention")
def attention(call: LinearCall) -> Any:
    """softmax(scale q k^T) v, three steps."""
    mask = call.get("attn_mask")
    everything = isinstance(mask, Tensor) and mask.dtype == torch.bool and bool(mask.all())
    if not (mask is None or everything) or call["is_causal"] or call.get("enable_gqa"):
        call.refuse("it has a mask that hides something, or groups of heads")
    if call["dropout_p"]:
        call.refuse("it is random in training mode")
    query, key, value = (call[name] for name in ("query", "key", "value"))
    if not all(isinstance(one, Ref) and len(one.shape) == len(call.shape) for one in (query, key, value)):
        call.refuse("queries, keys or values do not depend on the input, or have different numbers of axes")
    width = query.shape[-1]
    scale = 1 / math.sqrt(width) if call.get("scale") is None else float(call["scale"])
    if scale <= 0:
        call.refuse("its scale is not positive")
    name, layer = call.node.name, call.layer
    shape = (*call.shape[:-1], key.shape[-2])
    scores = Bilinear(
        f"{name}/scores",
        layer,
        (query.name, key.name),
        shape,
        lambda q, k: torch.matmul(q * scale, k.transpose(-1, -2)),
        (query.shape, key.shape),
        width,
    )
    weights = Softmax(f"{name}/weights", layer, (scores.node,), shape, len(shape) - 1)
    sources, shapes = (weights.node, value.name), (shape, value.shape)
    return scores, weights, Bilinear(name, layer, sources, call.shape, torch.matmul, shapes, shape[-1])


def bilinear(
    call: LinearCall, one: Ref, other: Ref, function: Callable[[Tensor, Tensor], Tensor], terms: int
) -> Bilinear:
    """The step of a product of two values, which broadcast behind the axis of the images."""
    rank = max(len(one.shape), len(other.shape))
    lead = [(1,) * (rank - len(ref.shape)) for ref in (one, other)]

    def aligned(a: Tensor, b: Tensor) -> Tensor:
        return function(*(x.reshape(len(x), *ones, *x.shape[1:]) for x, ones in zip((a, b), lead, strict=True)))

    sources = (one.name, other.name)
    return Bilinear(call.node.name, call.layer, sources, call.shape, aligned, (one.shape, other.shape), terms)
