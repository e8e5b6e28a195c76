"""Small parts of reading a graph: names, attributes of functions, when a tensor is last read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from robcert.network.onnx_import import limits
from robcert.network.onnx_import.network import Slot, Step
from robcert.network.onnx_import.values import Unsupported, flat


def bound(node: Any, values: Mapping[str, Any]) -> Any:
    """Return a node of a function with the attributes of the call filled in."""
    if not any(a.ref_attr_name for a in node.attribute):
        return node
    copied = type(node)()
    copied.CopyFrom(node)
    del copied.attribute[:]
    for attribute in node.attribute:
        if not attribute.ref_attr_name:
            copied.attribute.append(attribute)
        elif attribute.ref_attr_name in values:
            copied.attribute.append(values[attribute.ref_attr_name])
            copied.attribute[-1].name = attribute.name
    return copied


def inlined_count(nodes: Iterable[Any], functions: Mapping[tuple[str, str], Any]) -> int:
    """Return the number of nodes with every call of a function in its place, without writing them out.

    Raises:
        Unsupported: functions call each other more than 64 deep, or in a circle.
    """
    counts: dict[tuple[str, str], int] = {}

    def total(body: Iterable[Any], depth: int) -> int:
        if depth > limits.DEEPEST:
            raise Unsupported(f"functions and branches are nested more than {limits.DEEPEST} deep")
        found = 0
        for node in body:
            key = (node.domain, node.op_type)
            if key in functions and key not in counts:
                counts[key] = total(functions[key].node, depth + 1)
            inner = max((total(a.g.node, depth + 1) for a in node.attribute if a.HasField("g")), default=0)
            found += 1 + counts.get(key, 0) + inner
        return found

    return total(nodes, 0)


def with_last_uses(steps: list[Step], logits: int) -> list[Step]:
    """Return each step with the positions that nobody reads after it."""
    seen, found = {logits}, list[Step]()
    for step in reversed(steps):
        used = {a.index for a in flat(step.args) if isinstance(a, Slot)} | set(step.results)
        found.append(replace(step, last=tuple(sorted(used - seen))))
        seen |= used
    return found[::-1]


def names_of(outputs: list[str], name: str, count: int) -> list[str]:
    """Return the names of the results of a node; those without a name in the file go by the node's."""
    return [outputs[i] if i < len(outputs) and outputs[i] else (name if not i else f"{name}:{i}") for i in range(count)]


def label(proto: Any) -> str:
    """Return the name of a node for messages: its own, else that of its first result."""
    return repr(proto.name or next(iter(proto.output), "?"))


def free_name(holder: nn.Module, name: str) -> str:
    """Return a name that torch allows for a layer and that is not taken."""
    plain = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")[:80] or "layer"
    plain = f"_{plain}" if plain[0].isdigit() else plain
    key, number = plain, 1
    while hasattr(holder, key):
        number += 1
        key = f"{plain}_{number}"
    return key
