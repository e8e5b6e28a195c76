"""A row of `robcert norms`."""

from __future__ import annotations

from dataclasses import dataclass

from robcert.bounds.lipschitz.papers import PaperNorm


@dataclass(frozen=True)
class LayerRow:
    """The norms of one layer, a row of `robcert norms`.

    Attributes:
        name: the path of the layer in the network ("layer1.0.conv1"), or the node of the graph.
        op: what it is ("conv2d", "linear", "max_pool2d", "two-sided relu").
        in_shape: the shape of one input, without the batch.
        out_shape: the shape of one output, without the batch.
        l1: the l1 Lipschitz constant (exact for linear layers).
        linf: the l-infinity Lipschitz constant (exact for linear layers).
        l2_lower: attained, or None where nobody computed it (nonlinear ops).
        l2_upper: sound.
        linear: whether the layer is linear (norms are norms of a matrix).
        method: how l2_upper was found.
        note: why a constant is infinite, or "".
        papers: what papers compute for the layer, where that was asked for.
    """

    name: str
    op: str
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    l1: float
    linf: float
    l2_lower: float | None
    l2_upper: float
    linear: bool
    method: str = ""
    note: str = ""
    papers: tuple[PaperNorm, ...] = ()
