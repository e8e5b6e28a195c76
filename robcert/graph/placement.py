"""Where the images lie in the values of a graph, and how messages call its nodes."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from torch import fx

from robcert.graph.call import Spec


@dataclass(frozen=True)
class Unknown:
    """The reason for which an answer may not be that of one image alone."""

    reason: str


@dataclass(frozen=True)
class BatchAxis:
    """The axis of a tensor that holds the images, of size outer * images * inner.

    Entry p along it belongs to image (p // inner) % images: reshaping may put other axes before or behind the images.
    ``uniform``: all entries along the axis are the same, as in a constant that was expanded to the batch.
    """

    axis: int
    outer: int = 1
    inner: int = 1
    uniform: bool = False

    @property
    def plain(self) -> bool:
        """True where the images lie one by one along the first axis."""
        return (self.axis, self.outer, self.inner) == (0, 1, 1)

    def fits(self, other: BatchAxis) -> bool:
        """Return whether the same entries along the axis belong to the same images."""
        same = (self.outer, self.inner) == (other.outer, other.inner)
        return same or ((self.uniform or other.uniform) and self.outer * self.inner == other.outer * other.inner)


@dataclass(frozen=True)
class Placed:
    """A tensor and where the images lie in it; nowhere for a weight or a constant."""

    spec: Spec
    at: BatchAxis | None

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self.spec.shape)


Placement = tuple[Placed, ...] | Unknown
"""Where the images lie in the results of an operator."""


def layer_path(node: fx.Node, paths: Mapping[str, str]) -> str:
    """Return the path of the layer that a node belongs to, or the node's name where the graph does not say it.

    From the stack of modules that torch.export kept, else from the path of a weight that the node reads.
    """
    stack = cast("dict[str, tuple[str, Any]]", node.meta.get("nn_module_stack") or {})
    path = list(stack.values())[-1][0] if stack else ""
    if path in ("", "network"):
        read = [paths[n.name] for n in node.all_input_nodes if n.name in paths]
        path = read[0].rpartition(".")[0] if read else ""
    path = path.removeprefix("program.").removeprefix("network.")
    return path or node.name


def node_label(node: fx.Node) -> str:
    """Return what a node calls: "conv2d", "getitem"."""
    if node.target is operator.getitem:
        return "getitem"
    packet = getattr(node.target, "overloadpacket", node.target)
    return getattr(packet, "__name__", str(packet))
