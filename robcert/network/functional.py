"""In-place operators of a graph as ordinary ones, where nobody looks at the old value afterwards.

torch does this for every graph (``run_decompositions``), but takes several times as long as the export itself.
"""

from __future__ import annotations

import re
from typing import Any, cast

import torch
from torch import fx

_FRESH = re.compile(
    r"aten\.(conv\w*|linear|addmm|mm|bmm|matmul|batch_norm|group_norm|layer_norm|instance_norm|add|sub|mul|div|cat"
    r"|stack|relu|gelu|silu|hardtanh|hardswish|leaky_relu|elu|sigmoid|tanh|\w*max_pool\w*|\w*avg_pool\w*)\.\w+"
)
"""Operators whose result shares no memory with anything else."""


def mutates(node: fx.Node) -> bool:
    """Whether a node writes into one of its arguments."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and bool(schema.is_mutable)


def make_functional(graph: fx.Graph) -> bool:
    """Replaces every in-place operator by its ordinary form, if that changes nothing.

    It changes nothing where the overwritten tensor is fresh (no view of anything), no view of it was taken, and
    nothing but the result of the operator is read afterwards.

    Returns:
        Whether the graph is functional now; if not, it was left as it was.
    """
    order = {node: index for index, node in enumerate(graph.nodes)}
    replaced: dict[fx.Node, Any] = {}
    for node in graph.nodes:
        if not mutates(node):
            continue
        ordinary = _ordinary(node)
        written = node.args[0] if node.args else None
        if ordinary is None or not isinstance(written, fx.Node) or not _is_fresh(written, replaced):
            return False
        for user in written.users:
            if user is not node and not (order[user] < order[node] and _is_fresh(user, {})):
                return False
        replaced[node] = ordinary
    for node, ordinary in replaced.items():
        node.target = ordinary
    return True


def merge_repeated(graph: fx.Graph) -> None:
    """Lets everybody read the first of several equal nodes: the same operator with the same arguments.

    Rules that recognise a value in two places need it to be one node. Not for random operators, of which a graph
    in eval mode has none that matters.
    """
    first: dict[str, fx.Node] = {}
    if any(mutates(node) for node in graph.nodes):
        return
    for node in graph.nodes:
        if node.op != "call_function" or "rand" in str(node.target) or "bernoulli" in str(node.target):
            continue
        key = f"{node.target} {node.args!r} {node.kwargs!r}"
        kept = first.setdefault(key, node)
        if kept is not node:
            node.replace_all_uses_with(kept)


def _is_fresh(node: fx.Node, replaced: dict[fx.Node, Any]) -> bool:
    return node in replaced or (
        node.op == "call_function" and not mutates(node) and _FRESH.fullmatch(str(node.target)) is not None
    )


def _ordinary(node: fx.Node) -> Any:
    """``relu`` for ``relu_``, of the same overload, if only the first argument is written."""
    target = cast("Any", node.target)
    written = [a.name for a in target._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    name, overload = target._schema.name.split("::")[-1], target._overloadname
    packet = getattr(torch.ops.aten, name.removesuffix("_"), None)
    if not name.endswith("_") or written != [target._schema.arguments[0].name] or packet is None:
        return None
    return getattr(packet, overload, None)
