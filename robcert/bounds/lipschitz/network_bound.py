"""The Lipschitz bound of a whole network, which `robcert norms` prints and certificates divide by.

The graph that the network executes (`robcert.graph.read`) is read in one pass. Each op has a rule
(`robcert.bounds.lipschitz.rules`) that says what it does to distances in l1, l2 and l-infinity; an op without one is
an error. The bounds hold in real arithmetic for the float32 weights of the executed network, on the whole
input space, and are rounded outwards; the rounding of the executed logits is the business of the certificate.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING

from robcert.bounds.lipschitz.domain import LipschitzDomain
from robcert.bounds.lipschitz.layer_row import LayerRow
from robcert.bounds.lipschitz.linear_head import LinearHead, linear_head
from robcert.bounds.lipschitz.values import ONE, Bounds, Value
from robcert.errors import UsageError
from robcert.graph.cache import graph_of
from robcert.graph.interpreter import decomposed_if_needed
from robcert.graph.read import read_graph
from robcert.types import BOUND_NORMS, BoundNorm, LoadedModel

if TYPE_CHECKING:
    from torch import Tensor, nn


__all__ = [
    "BINDINGS",
    "GraphBound",
    "LayerRow",
    "NetworkBound",
    "graph_bound",
    "lipschitz_bound",
    "network_bounds",
    "propagate",
]


@dataclass(frozen=True)
class NetworkBound:
    """The Lipschitz constants of the logits, for one norm of the input.

    Attributes:
        norm: of the input; logit vectors are measured in the same norm.
        whole: L with ||f(x) - f(y)|| <= L ||x - y||.
        features: the same for the input of the last linear layers (in front of the linear head).
        logits: (classes,) float64: |f_i(x) - f_i(y)| <= L_i ||x - y||.
        reasons: for each op without a finite constant: layer, op and why; empty if the bound is finite.
    """

    norm: BoundNorm
    whole: float
    features: float
    logits: Tensor
    reasons: tuple[str, ...]
    head: LinearHead = field(repr=False, compare=False)

    @property
    def finite(self) -> bool:
        """True where the whole logit vector has a finite constant."""
        return math.isfinite(self.whole)

    @property
    def slope(self) -> float:
        """||e_i - e_j||_dual * whole: sqrt(2) L for l2, 2 L for l-infinity, L for l1 (paper A, lemma 1)."""
        return self.head.slope(self.norm)

    def pair_row(self, label: int) -> Tensor:
        """L_ij for i = ``label`` and all j: (classes,) float64, 0 at j = i.

        |(f_i - f_j)(x) - (f_i - f_j)(y)| <= L_ij ||x - y||, the smallest of ||w_i - w_j||_dual L_features
        ("rows"), L_i + L_j ("sum", paper A lemma 6) and the slope of the whole vector ("whole", lemma 1).
        Computed on the first call for a label and kept.
        """
        return self.head.pair_row(self.norm, label)[0]

    def binding_row(self, label: int) -> Tensor:
        """The constant that is the smallest, beside `pair_row`: (classes,) int64, an index into `BINDINGS`."""
        return self.head.pair_row(self.norm, label)[1]

    @property
    def pairs(self) -> Tensor:
        """All rows of `pair_row`: (classes, classes) float64, symmetric up to rounding."""
        import torch

        return torch.stack([self.pair_row(i) for i in range(len(self.logits))])


BINDINGS = ("rows", "sum", "whole")
"""The constants that `NetworkBound.binding_row` tells apart."""


@dataclass(frozen=True)
class GraphBound:
    """The layers of a network and its bounds in all norms, from one pass over its graph.

    Attributes:
        rows: a row a layer, in the order of execution.
        bounds: the bound of the network per norm.
        product: per norm, the product over all rows (what papers report for sequential networks; not a bound
            of a network with branches).
        seconds: what the pass took.
    """

    rows: tuple[LayerRow, ...]
    bounds: dict[BoundNorm, NetworkBound]
    product: dict[BoundNorm, float]
    seconds: float


def graph_bound(
    model: LoadedModel | nn.Module,
    input_shape: tuple[int, ...] | None = None,
    *,
    tol: float = 0.01,
    papers: bool = False,
) -> GraphBound:
    """Return the norms of every layer and the Lipschitz bounds of the network, from input to logits.

    Args:
        model: a loaded network, or a module in eval mode together with ``input_shape``.
        input_shape: the shape of one input, channels first, where ``model`` does not say it.
        tol: the wanted (upper - lower) / lower of the l2 norms of linear layers.
        papers: rows hold the bounds that papers use, too (`robcert.bounds.lipschitz.papers`), which cost extra.

    Raises:
        UsageError: a module without ``input_shape``.
        EvaluationError: the graph cannot be exported (TorchScript: with the way out); an op has no rule (the
            error names the op, the layer and the folder in which to add one); weights that are NaN or
            infinite; a network whose answer to one image depends on others of the batch.
    """
    start = time.perf_counter()
    domain, logits = propagate(model, input_shape, tol=tol, papers=papers)
    bounds = network_bounds(domain, logits)
    rows = tuple(domain.rows.values())
    gains = [Bounds(row.l2_upper, row.linf, row.l1) for row in rows]
    every = reduce(Bounds.times, gains, ONE)
    return GraphBound(rows, bounds, {norm: every[norm] for norm in BOUND_NORMS}, time.perf_counter() - start)


def propagate(
    model: LoadedModel | nn.Module,
    input_shape: tuple[int, ...] | None = None,
    *,
    tol: float = 0.01,
    papers: bool = False,
) -> tuple[LipschitzDomain, Value]:
    """Return the domain behind `graph_bound` and its value of the logits; the same arguments and errors."""
    if isinstance(model, LoadedModel):
        shape = model.input_shape
    elif input_shape is None:
        raise UsageError("the shape of one input is not known", "Give input_shape=(channels, height, width).")
    else:
        shape = tuple(input_shape)

    def analyse(decompose: bool) -> tuple[LipschitzDomain, Value]:
        if isinstance(model, LoadedModel):
            graph = graph_of(model, decompose=decompose)
        else:
            graph = read_graph(model, shape, type(model).__name__, decompose=decompose)
        domain = LipschitzDomain(graph, math.prod(shape), tol, papers)
        return domain, domain.run()

    return decomposed_if_needed(analyse)


def network_bounds(domain: LipschitzDomain, logits: Value) -> dict[BoundNorm, NetworkBound]:
    """Return the bounds of the network in all norms, from a domain that has been propagated."""
    last = linear_head(domain, logits)
    return {
        norm: NetworkBound(norm, last.whole[norm], last.features(norm), last.logits[norm], logits.reasons, last)
        for norm in BOUND_NORMS
    }


def lipschitz_bound(
    model: LoadedModel | nn.Module,
    norm: BoundNorm,
    input_shape: tuple[int, ...] | None = None,
    *,
    tol: float = 0.01,
) -> NetworkBound:
    """Return the bound of `graph_bound` for one norm."""
    return graph_bound(model, input_shape, tol=tol).bounds[norm]
