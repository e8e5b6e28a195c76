"""Constants that a network computes from its weights whenever it is called, and which of them round in one way only."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx

from robcert.bounds.lipschitz.rules.shapes import MOVES
from robcert.errors import EvaluationError
from robcert.graph.placement import layer_path, node_label
from robcert.graph.read import Graph

_ROUNDED_ALIKE = frozenset(
    (
        *("add", "sub", "rsub", "mul", "div", "reciprocal", "neg", "abs", "sqrt", "relu", "clamp", "maximum"),
        *("full", "full_like", "scalar_tensor", "arange", "eye", "zeros_like", "ones_like", "_to_copy", "cat", "stack"),
        *("where", "index", "index_select", "constant_pad_nd", "pad", "repeat", "expand", "clamp_min", "clamp_max"),
        *("amax", "amin", "ones", "zeros", "new_ones", "new_zeros", "new_full", "minimum", "square"),
    )
)
"""Ops on constants that IEEE 754 rounds in one way only, on every device and in every order."""


def computed_constants(graph: Graph, values: dict[str, Any]) -> list[fx.Node]:
    """Return the nodes that compute a floating-point constant: they do more than move entries.

    Args:
        graph: of the network.
        values: what the Lipschitz pass found of every node, by name; of a constant, its value.
    """

    def computes(node: fx.Node) -> bool:
        found = values[node.name]
        floating = isinstance(found, Tensor) and found.is_floating_point()
        return floating and node_label(node) not in (*MOVES, "slice", "select", "expand", "expand_as", "zeros", "ones")

    return [node for node in graph.nodes if node.op == "call_function" and computes(node)]


def check_constants(name: str, computed: list[fx.Node], graph: Graph) -> None:
    """Refuse constants whose float32 value may depend on the order of summation.

    Args:
        name: of the network.
        computed: its computed constants.
        graph: of the network.

    Raises:
        EvaluationError: names the first op.
    """
    for node in computed:
        if node_label(node) not in _ROUNDED_ALIKE:
            raise EvaluationError(
                f"{name} computes a constant from its weights whenever it is called ({node_label(node)} in "
                f"layer {layer_path(node, graph.paths)}), and no bound of that rounding is known",
                "Store the computed weights instead.",
            )
