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
from robcert.network.onnx_import.values import PROBES, Apply, Extent, Value, apply, by_batch, known, method


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
    return apply(torch.full, node.extents(0, "shape"), number, dtype=dtype)


@op("Range", 11, 27)
def progression(node: Node) -> Apply | Value:
    """start, start + delta, ... below limit."""
    dtype, ends = node.x.probes[0].dtype, list[Any]()
    for i in range(3):
        ends += [node.tensor(i, "range").item()] if dtype.is_floating_point else node.extents(i, "range")[:1]
    start, limit, delta = (end.at(PROBES[-1]) if isinstance(end, Extent) else end for end in ends)
    count = (limit - start) / delta if delta else math.inf
    if not math.isfinite(count):
        node.refuse(f"it runs from {start} to {limit} in steps of {delta}")
    limits.check(max(0, math.ceil(count)), limits.MOST_CONSTANTS, f"the range {node.name}")
    if any(isinstance(end, Extent) and not end.constant for end in ends):  # known for every number of images
        return by_batch(node.name, *(_range(dtype, *(end.at(n) for end in ends)) for n in PROBES))
    return apply(_range, dtype, *ends)


def _range(dtype: torch.dtype, start: float, limit: float, delta: float) -> Tensor:
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
    rows, columns = (size.fixed for size in sizes)
    return apply(lambda: torch.ones(rows, columns).tril(k).triu(k).to(dtype))


@op("Cast", 6, 9, 13, 19, 21, 23, 24, 25, 28)
def cast(node: Node) -> Apply:
    """To another type; every float is float32 here."""
    return _cast(node, dtype_of(int(node.get("to", 0))))


@op("CastLike", 15, 19, 21, 23, 24, 25)
def cast_like(node: Node) -> Apply:
    """To the type of another tensor."""
    return _cast(node, node.input(1).probes[0].dtype)


def _cast(node: Node, dtype: torch.dtype) -> Apply:
    node.ignore("saturate", "round_mode")
    same = node.x.probes[0].dtype == dtype
    return apply(nn.Identity(), node.x) if same else apply(method("to"), node.x, dtype)
