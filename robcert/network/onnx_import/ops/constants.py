"""Tensors that are made, and types."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from robcert.network.onnx_import import limits
from robcert.network.onnx_import.decode import dtype_of
from robcert.network.onnx_import.node import Node
from robcert.network.onnx_import.table import op
from robcert.network.onnx_import.values import PROBES, Apply, Extent, Value, apply, known


@op("Constant", 1, 9, 11, 12, 13, 19, 21, 23, 24, 25)
def constant(node: Node) -> Value:
    """A tensor, a number or a list of numbers."""
    given = {name: node.get(name) for name in ("value", "value_float", "value_floats", "value_int", "value_ints")}
    found = {name: value for name, value in given.items() if value is not None}
    if len(found) != 1:
        node.refuse("it has no value, or one that is neither a tensor nor numbers")
    name, value = next(iter(found.items()))
    if name == "value":
        return known(node.name, value)
    return known(node.name, torch.tensor(value, dtype=torch.float32 if "float" in name else torch.int64))


@op("ConstantOfShape", 9, 20, 21, 23, 24, 25)
def constant_of_shape(node: Node) -> Apply:
    """One number, everywhere."""
    value = node.get("value")
    number: Any = 0.0 if value is None else value.reshape(-1)[0].item()
    dtype = torch.float32 if value is None else value.dtype
    return apply(_full, node.extents(0, "shape"), number, dtype)


def _full(sizes: list[int], number: Any, dtype: torch.dtype) -> Tensor:
    return torch.full(sizes, number, dtype=dtype)


@op("Range", 11, 27)
def progression(node: Node) -> Apply | Value:
    """start, start + delta, ... below limit."""
    dtype = node.x.probes[0].dtype
    if dtype.is_floating_point:
        start, limit, delta = (node.tensor(i, "range").item() for i in range(3))
        ends: list[Any] = [start, limit, delta]
        count = (limit - start) / delta if delta else math.inf
    else:
        ends = [node.extents(i, "range")[0] for i in range(3)]
        start, limit, delta = (end.at(PROBES[-1]) for end in ends)
        count = (limit - start) / delta if delta else math.inf
    if not math.isfinite(count):
        node.refuse(f"it runs from {start} to {limit} in steps of {delta}")
    limits.check(max(0, math.ceil(count)), limits.MOST_CONSTANTS, f"the range {node.name}")
    if any(isinstance(end, Extent) and not end.constant for end in ends):  # known for every number of images
        first, last, step = ends
        two, three = (_range(first.at(n), last.at(n), step.at(n), dtype) for n in PROBES)
        return Value(node.name, (two, three))
    return apply(_range, *ends, dtype)


def _range(start: float, limit: float, delta: float, dtype: torch.dtype) -> Tensor:
    runs = (limit - start) * delta > 0
    return torch.arange(start, limit if runs else start, delta, dtype=dtype)


@op("EyeLike", 9, 22)
def eye(node: Node) -> Apply:
    """Ones on a diagonal."""
    number, k = node.get("dtype"), int(node.get("k", 0))
    dtype = node.x.probes[0].dtype if number is None else dtype_of(int(number))
    sizes = node.x.shape
    if len(sizes) != 2 or not all(s.constant for s in sizes):
        node.refuse("its shape is no constant matrix")
    return apply(_eye, sizes[0].fixed, sizes[1].fixed, k, dtype)


def _eye(rows: int, columns: int, k: int, dtype: torch.dtype) -> Tensor:
    return torch.ones(rows, columns).tril(k).triu(k).to(dtype)


@op("Cast", 6, 9, 13, 19, 21, 23, 24, 25, 28)
def cast(node: Node) -> Any:
    """To another type; every float is float32 here."""
    node.get("saturate")
    node.get("round_mode")
    return _cast(node, dtype_of(int(node.get("to", 0))))


@op("CastLike", 15, 19, 21, 23, 24, 25)
def cast_like(node: Node) -> Any:
    """To the type of another tensor."""
    node.get("saturate")
    node.get("round_mode")
    return _cast(node, node.input(1).probes[0].dtype)


def _cast(node: Node, dtype: torch.dtype) -> Apply:
    if node.x.probes[0].dtype == dtype:
        return apply(nn.Identity(), node.x)
    return apply(_to, node.x, dtype)


def _to(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.to(dtype)
