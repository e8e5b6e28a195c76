"""``robcert.norms``: the norms of all layers, and the Lipschitz bound of the network."""

from __future__ import annotations

from collections.abc import Sequence

from robcert.accel.allocator import keep_memory
from robcert.bounds.lipschitz.network_bound import graph_bound
from robcert.runs.records.norms import NormsRecord, norms_record
from robcert.types import LoadedModel


def norms(model: LoadedModel | Sequence[LoadedModel], *, tol: float = 0.01, papers: bool = False) -> NormsRecord:
    """Bound the l1, l-inf and l2 norms of every layer, and the Lipschitz constant of the whole graph.

    The norms in l1 and l-inf are exact, those in l2 are bracketed; all upper ends are sound.

    Args:
        model: one network or several (`robcert.load_model`).
        tol: the wanted (upper - lower) / lower of l2 norms.
        papers: also compute what papers use for the l2 norm of a layer; some of these numbers are no bounds.

    Returns:
        For each network: its layers, the product of their norms, the bound of the graph.

    Raises:
        EvaluationError: an operator of the network has no rule; it is named.
    """
    models = [model] if isinstance(model, LoadedModel) else list(model)
    keep_memory()
    return norms_record([(one, graph_bound(one, tol=tol, papers=papers)) for one in models])
