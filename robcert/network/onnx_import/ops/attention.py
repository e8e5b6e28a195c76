"""Attention as one op."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional

from robcert.network.onnx_import.node import Node
from robcert.network.onnx_import.table import op
from robcert.network.onnx_import.values import Apply, apply


@op("Attention", 23, 24, 25)
def attention(node: Node) -> Apply:
    """softmax(scale Q K^T + mask) V over heads; (n, length, heads * width) or (n, heads, length, width)."""
    query, keys, values = (node.input(i) for i in range(3))
    heads, inner = int(node.get("q_num_heads", 0)), int(node.get("kv_num_heads", 0))
    scale, causal = node.get("scale"), bool(node.get("is_causal", 0))
    node.get("softmax_precision")
    if node.get("softcap", 0.0) or node.get("qk_matmul_output_mode", 0) or node.outputs > 1:
        node.refuse("it caps its scores, or returns more than its result")
    if any(node.has(i) for i in range(4, len(node.inputs))):
        node.refuse("it has keys and values of the past")
    if query.rank == 3 and not (heads > 0 and inner > 0):
        node.refuse("its numbers of heads are missing")
    mask = node.input(3) if node.has(3) else None
    sizes = (heads, inner) if query.rank == 3 else None
    return apply(_attention, query, keys, values, mask, scale, causal, sizes)


def _attention(query: Tensor, keys: Tensor, values: Tensor, mask: Any, scale: Any, causal: bool, heads: Any) -> Tensor:
    if heads is not None:
        query = query.unflatten(-1, (heads[0], -1)).transpose(1, 2)
        keys, values = (t.unflatten(-1, (heads[1], -1)).transpose(1, 2) for t in (keys, values))
    found = functional.scaled_dot_product_attention(
        query, keys, values, mask, 0.0, causal, scale=scale, enable_gqa=query.shape[1] != keys.shape[1]
    )
    return found if heads is None else found.transpose(1, 2).flatten(2)
