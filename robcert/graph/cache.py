"""The graph of a loaded network, read once and kept as long as the network is unchanged."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from robcert.graph.fingerprint import fingerprint
from robcert.graph.read import Graph, read_graph
from robcert.types import LoadedModel

_KNOWN: WeakKeyDictionary[nn.Module, tuple[tuple[Any, ...], dict[bool, Graph]]] = WeakKeyDictionary()


def graph_of(model: LoadedModel, *, decompose: bool = False) -> Graph:
    """Return the graph of a network, see `robcert.graph.read.read_graph`.

    Args:
        model: the network.
        decompose: write rare operators in terms of common ones.

    Raises:
        EvaluationError: as `read_graph`.
    """
    key = (model.name, *fingerprint(model))
    found = _KNOWN.get(model.module)
    if found is None or found[0] != key:
        found = key, dict[bool, Graph]()
    if decompose not in found[1]:
        found[1][decompose] = read_graph(model.module, model.input_shape, model.name, decompose=decompose)
        _KNOWN[model.module] = found
    return found[1][decompose]
