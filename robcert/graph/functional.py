"""In-place operators of a graph as ordinary ones, where nobody looks at the old value afterwards.

torch does this for every graph (``run_decompositions``), but takes several times as long as the export itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import fx, nn

_FRESH = re.compile(
    r"aten\.(conv\w*|linear|addmm|mm|bmm|matmul|batch_norm|group_norm|layer_norm|instance_norm|add|sub|mul|div|cat"
    r"|stack|relu|gelu|silu|hardtanh|hardswish|leaky_relu|elu|sigmoid|tanh|\w*max_pool\w*|\w*avg_pool\w*)\.\w+"
)
"""Operators whose result shares no memory with anything else."""


_REGIONS = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": 4}
"""Regions of a graph -> the number of arguments in front of their own graph."""


def copied(graph: fx.Graph, owner: nn.Module) -> fx.Graph:
    """Return a copy of a graph, to be rewritten; nodes keep their names and what is known of them.

    Regions in which torch was told to record gradients, or not, become part of it: they compute the same. So do regions
    in which automatic casts are off.

    Args:
        graph: of a network.
        owner: holds the graphs of its regions.
    """
    copy = fx.Graph()
    names: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        if node in names:
            continue
        region = _region(node, owner)
        if region is None:
            names[node] = copy.node_copy(node, lambda n: names[n])
            continue
        inner, given = region
        inputs = [n for n in inner.nodes if n.op == "placeholder"]
        inside = {n: names[read] for n, read in zip(inputs, given, strict=True)}
        results = cast("tuple[fx.Node, ...]", copy.graph_copy(inner, inside))
        for user in list(node.users):  # each picks one of the results
            names[user] = results[cast("int", user.args[1])]
    for node in list(copy.nodes):
        if node.op == "get_attr" and not node.users:
            copy.erase_node(node)
    _name(copy, {new: node.name for node, new in names.items() if node.op != "get_attr"})
    return copy


def _name(graph: fx.Graph, names: Mapping[fx.Node, str]) -> None:
    """Give nodes these names, which a copy avoids where Python has them ("input"), and all others another one."""
    taken = set(names.values())
    for node in graph.nodes:
        name = names.get(node)
        if name is None:
            name = node.name
            while name in taken:
                name += "_"
            taken.add(name)
        node.name = name


def _region(node: fx.Node, owner: nn.Module) -> tuple[fx.Graph, list[fx.Node]] | None:
    """The graph of a region that computes what its operators compute, and what it reads."""
    count = _REGIONS.get(getattr(node.target, "__name__", ""))
    if node.op != "call_function" or count is None:
        return None
    if count == 4 and node.args[2]:  # device, dtype, enabled, cache: casts are on
        return None
    inner = getattr(owner, str(cast("fx.Node", node.args[count]).target)).graph
    return inner, cast("list[fx.Node]", list(node.args[count + 1 :]))


def mutates(node: fx.Node) -> bool:
    """Return whether a node writes into one of its arguments."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and bool(schema.is_mutable)


def is_random(node: fx.Node) -> bool:
    """Return whether a node draws from a random stream."""
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def make_functional(graph: fx.Graph) -> bool:
    """Replace every in-place operator by its ordinary form, if that changes nothing.

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
        if any(_dtype(read) != _dtype(written) for read in node.all_input_nodes if _dtype(read) is not None):
            return False  # the ordinary form would promote, and answer in another type
        for user in written.users:
            if user is not node and not (order[user] < order[node] and _is_fresh(user, {})):
                return False
        replaced[node] = ordinary
    for node, ordinary in replaced.items():
        node.target = ordinary
    return True


def merge_repeated(graph: fx.Graph) -> None:
    """Let everybody read the first of several equal nodes: the same operator with the same arguments.

    Rules that recognise a value in two places need it to be one node. Not for random operators, which give another
    value every time.
    """
    first: dict[str, fx.Node] = {}
    if any(mutates(node) for node in graph.nodes):
        return
    for node in graph.nodes:
        if node.op != "call_function" or is_random(node):
            continue
        key = f"{node.target} {node.args!r} {node.kwargs!r}"
        kept = first.setdefault(key, node)
        if kept is not node:
            node.replace_all_uses_with(kept)


def drop_unused(graph: fx.Graph) -> None:
    """Erase operators whose results nobody reads: they change no logit, so no rule need understand them.

    Checks of sizes and values are erased too: that the graph takes any number of images is tried where it is read.
    Operators that write into a tensor stay, and those on graphs, which may.
    """
    for node in reversed(graph.nodes):
        known = getattr(node.target, "_schema", None) is not None
        if node.op == "call_function" and known and not node.users and not mutates(node):
            graph.erase_node(node)


def _is_fresh(node: fx.Node, replaced: dict[fx.Node, Any]) -> bool:
    return node in replaced or (
        node.op == "call_function" and not mutates(node) and _FRESH.fullmatch(str(node.target)) is not None
    )


def _dtype(node: fx.Node) -> torch.dtype | None:
    return getattr(node.meta.get("val"), "dtype", None)


def _ordinary(node: fx.Node) -> Any:
    """``relu`` for ``relu_``, of the same overload, if only the first argument is written."""
    target = cast("Any", node.target)
    written = [a.name for a in target._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    name, overload = target._schema.name.split("::")[-1], target._overloadname
    packet = getattr(torch.ops.aten, name.removesuffix("_"), None)
    if not name.endswith("_") or written != [target._schema.arguments[0].name] or packet is None:
        return None
    return getattr(packet, overload, None)
