"""Matrix products."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from robcert.network.onnx_import.network import filled
from robcert.network.onnx_import.node import Node
from robcert.network.onnx_import.table import op
from robcert.network.onnx_import.values import Apply, apply


def linear_layer(weight: Tensor, bias: Tensor | None) -> nn.Module:
    """A Linear with these weights, (outputs, inputs)."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    return filled(layer, weight=weight, bias=bias)


@op("Gemm", 7, 9, 11, 13)
def gemm(node: Node) -> Apply:
    """alpha A B + beta C, each of A and B transposed if asked; a layer where B and C are constant."""
    alpha, beta = float(node.get("alpha", 1.0)), float(node.get("beta", 1.0))
    left, right = bool(node.get("transA", 0)), bool(node.get("transB", 0))
    a, b, c = node.x, node.input(1), node.input(2) if node.has(2) else None
    if a.rank != 2 or b.rank != 2:
        node.refuse(f"it multiplies tensors with {a.rank} and {b.rank} axes, not matrices")
    if not left and b.constant and (c is None or c.constant):
        weight = b.probes[0] if right else b.probes[0].T
        bias = None if c is None else _row(c.probes[0], int(weight.shape[0]))
        if c is None or bias is not None:
            scaled = alpha * weight if alpha != 1 else weight
            return apply(linear_layer(scaled, bias if bias is None or beta == 1 else beta * bias), a)
    return apply(_gemm, a, b, c if c is not None else 0.0, alpha, beta, left, right)


def _row(bias: Tensor, outputs: int) -> Tensor | None:
    """The bias as one number an output, if it is the same for every row."""
    if bias.dim() > 2 or (bias.dim() == 2 and bias.shape[0] != 1) or bias.shape[-1:].numel() not in (1, outputs):
        return None
    return bias.reshape(-1).expand(outputs)


def _gemm(a: Tensor, b: Tensor, c: Any, alpha: float, beta: float, left: bool, right: bool) -> Tensor:
    product = torch.matmul(a.mT if left else a, b.mT if right else b)
    return alpha * product + beta * c


@op("MatMul", 1, 9, 13)
def matmul(node: Node) -> Apply:
    """A B over the last two axes; a layer where B is a constant matrix."""
    a, b = node.x, node.input(1)
    if a.computed and b.constant and b.rank == 2 and a.rank >= 2:
        return apply(linear_layer(b.probes[0].T, None), a)
    return apply(torch.matmul, a, b)


@op("Einsum", 12, 28)
def einsum(node: Node) -> Apply:
    """Sums of products by Einstein's convention."""
    return apply(torch.einsum, node.get("equation", "").replace(" ", ""), node.given)
