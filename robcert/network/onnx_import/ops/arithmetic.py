"""Entry by entry: sums, products, powers, comparisons."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from robcert.network.onnx_import.node import Node
from robcert.network.onnx_import.patterns import gated, gelu_of, has_positive_offset
from robcert.network.onnx_import.table import op, op_table
from robcert.network.onnx_import.values import Apply, Value, apply

_TINY = 2.0**-126


def _scalar(value: Value) -> Any:
    """A constant with one entry as a number, so that graphs say x * 2 and not x * tensor."""
    if not value.constant or value.probes[0].numel() != 1 or value.rank > 0:
        return value
    return value.probes[0].item()


def _binary(node: Node, function: Callable[..., Tensor]) -> Apply:
    one, other = node.input(0), node.input(1)
    if one.computed:
        return apply(function, one, _scalar(other))
    if other.computed and not one.rank and one.constant and function in (torch.add, torch.mul):
        return apply(function, other, _scalar(one))
    return apply(function, one, other)


@op("Add", 7, 13, 14)
def add(node: Node) -> Apply:
    """a + b."""
    return _binary(node, torch.add)


@op("Sub", 7, 13, 14)
def subtract(node: Node) -> Apply:
    """a - b."""
    return _binary(node, torch.sub)


@op("Mul", 7, 13, 14)
def multiply(node: Node) -> Apply:
    """a b; x sigmoid(x) and the like become the activation function that they are."""
    one, other = node.input(0), node.input(1)
    layer = gated(one, other) or gated(other, one)
    if layer is not None:
        return layer
    found = gelu_of(one, other)
    return apply(nn.GELU(), found) if found is not None else _binary(node, torch.mul)


@op("Div", 7, 13, 14)
def divide(node: Node) -> Apply:
    """a / b; of integers, rounded towards 0."""
    if not node.x.probes[0].is_floating_point():
        return apply(torch.div, node.x, node.input(1), rounding_mode="trunc")
    return _binary(node, torch.div)


@op("Mod", 10, 13, 28)
def modulo(node: Node) -> Apply:
    """The remainder, with the sign of the divisor (fmod=1: of the dividend)."""
    return apply(torch.fmod if node.get("fmod", 0) else torch.remainder, node.x, node.input(1))


@op("Pow", 7, 12, 13, 15)
def power(node: Node) -> Apply:
    """a ^ b."""
    given = node.input(1)
    single = given.constant and given.probes[0].numel() == 1 and given.rank <= node.x.rank
    exponent = given.probes[0].item() if single else given
    return apply(_root, node.x) if exponent == 0.5 else apply(torch.pow, node.x, exponent)


@op("Sqrt", 6, 13)
def root(node: Node) -> Apply:
    """The square root; its slope at 0, where it has none, is 0."""
    return apply(torch.sqrt if not node.x.computed or has_positive_offset(node.x) else _root, node.x)


def _root(x: Tensor) -> Tensor:
    # A slope of infinity times a slope of 0 (the norm of a window of zeros) is NaN, and ends every attack.
    return torch.sqrt(torch.clamp_min(x, _TINY))


UNARY: dict[str, tuple[tuple[int, ...], Callable[[Tensor], Tensor]]] = {
    "Abs": ((6, 13), torch.abs),
    "Neg": ((6, 13), torch.neg),
    "Reciprocal": ((6, 13), torch.reciprocal),
    "Exp": ((6, 13), torch.exp),
    "Log": ((6, 13), torch.log),
    "Erf": ((9, 13), torch.erf),
    "Sign": ((9, 13), torch.sign),
    "Floor": ((6, 13), torch.floor),
    "Ceil": ((6, 13), torch.ceil),
    "Round": ((11, 22), torch.round),
    "Sin": ((7, 22), torch.sin),
    "Cos": ((7, 22), torch.cos),
    "Tan": ((7, 22), torch.tan),
    "Atan": ((7, 22), torch.atan),
    "Asinh": ((9, 22), torch.asinh),
    "Not": ((1,), torch.logical_not),
    "IsNaN": ((9, 13, 20), torch.isnan),
}
"""Ops of one tensor without attributes that are one function of torch."""

SEVERAL: dict[str, tuple[tuple[int, ...], Callable[..., Tensor]]] = {
    "Equal": ((7, 11, 13, 19), torch.eq),
    "Greater": ((7, 9, 13), torch.gt),
    "GreaterOrEqual": ((12, 16), torch.ge),
    "Less": ((7, 9, 13), torch.lt),
    "LessOrEqual": ((12, 16), torch.le),
    "And": ((7,), torch.logical_and),
    "Or": ((7,), torch.logical_or),
    "Xor": ((7,), torch.logical_xor),
    "Where": ((9, 16), torch.where),
}
"""Likewise, of two or three tensors."""

ANY_NUMBER: dict[str, tuple[tuple[int, ...], Callable[[list[Tensor]], Tensor]]] = {
    "Sum": ((6, 8, 13), lambda tensors: reduce(torch.add, tensors)),
    "Max": ((6, 8, 12, 13), lambda tensors: reduce(torch.maximum, tensors)),
    "Min": ((6, 8, 12, 13), lambda tensors: reduce(torch.minimum, tensors)),
    "Mean": ((6, 8, 13), lambda tensors: reduce(torch.add, tensors) / len(tensors)),
}
"""Likewise, of any number of tensors."""

op_table(UNARY, lambda function, node: apply(function, node.x))
op_table(SEVERAL, lambda function, node: apply(function, *node.given))
op_table(ANY_NUMBER, lambda function, node: apply(function, node.given))
