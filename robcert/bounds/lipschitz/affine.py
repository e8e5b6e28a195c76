"""Several linear ops as one matrix.

Between two nonlinear ops a network is affine, v = sum_k T_k a_k + c. The norm of T_k is never larger than
what the ops give one by one, and often smaller (a convolution and the pooling behind it, a sum of two
branches). The matrices are read off by automatic differentiation in float64.

**Rounding.** Every entry of T_k is a sum over paths of products of entries of the ops' matrices A. In float64
it is off by at most gamma_N times the same sum with absolute values, where N counts the roundings on the way;
that sum has l1 and l-infinity norms of at most P_1 and P_inf, the constants of the ops one by one, since |A|
and A have the same l1 and l-infinity norms. So the error matrix E has ||E||_1 <= gamma_N P_1,
||E||_inf <= gamma_N P_inf, ||E||_2 <= sqrt(||E||_1 ||E||_inf), and no entry and no row norm of it exceeds
gamma_N max(P_1, P_inf).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx

from robcert.bounds.lipschitz.norms import operator_norm
from robcert.bounds.lipschitz.operators import Dense
from robcert.bounds.lipschitz.values import ONE, ZERO, Bounds, Value, product, root, total
from robcert.graph.call import concrete, wide
from robcert.graph.export import IMAGES
from robcert.graph.read import Graph
from robcert.math.rounding import gamma, up
from robcert.types import BoundNorm

LIMIT = 1 << 18
"""The largest matrix, in entries, that is formed between two nonlinear ops."""

_CHUNK = 1 << 22
_UNDERFLOW = 2.0**-480


@dataclass(frozen=True)
class Matrix:
    """T, (outputs, inputs) float64, and bounds of the norms of its error."""

    entries: Tensor
    error: Bounds

    @property
    def row_error(self) -> float:
        """No norm of a row of the error is larger than this."""
        return max(self.error.l1, self.error.linf)


class Segment:
    """The affine part of the graph between some values and a later one."""

    def __init__(self, graph: Graph, values: dict[str, Any], value: Value, anchors: Sequence[Value]) -> None:
        self.values = values
        self.value = value
        self.anchors = anchors
        self.stops = {a.node for a in anchors}
        self.nodes = self._between(graph)

    def _between(self, graph: Graph) -> list[fx.Node]:
        by_name = {node.name: node for node in graph.nodes}
        wanted: set[str] = set()
        pending = [self.value.node]
        while pending:
            name = pending.pop()
            if name in wanted or name in self.stops:
                continue
            wanted.add(name)
            pending += [n.name for n in by_name[name].all_input_nodes if _is_computed(self.values[n.name])]
        return [node for node in graph.nodes if node.name in wanted]

    def bound(self, tol: float) -> Bounds | None:
        """The sum of ||T_k|| bounds(a_k), or None where that would cost too much."""
        if any(a.size * self.value.size > LIMIT * IMAGES**2 for a in self.anchors):
            return None
        matrices = self.matrices(None)
        if matrices is None:
            return None
        result = ZERO
        for anchor, matrix in zip(self.anchors, matrices, strict=True):
            result = result.plus(norms(matrix, tol).times(anchor.bounds))
        return result

    def matrices(self, rows: int | None, extra: Sequence[str] = (), limit: int = 1 << 40) -> list[Matrix] | None:
        """The matrices of the anchors, then those of ``extra`` nodes inside the segment.

        Args:
            rows: the first entries of the value that count; None for all of them.
            extra: names of nodes of the segment.
            limit: of the entries of a matrix; larger ones are left out (an empty matrix stands for them).

        Returns:
            None where an op does not run in float64, or has no derivative.
        """
        count = self.value.size if rows is None else rows
        names = [*(a.node for a in self.anchors), *extra]
        sizes = [cast("Value", self.values[n]).size for n in names]
        kept = [n for n, size in zip(names, sizes, strict=True) if size * count <= limit]
        try:
            gradients = self._gradients(kept, count)
        except (RuntimeError, NotImplementedError, TypeError):
            return None
        empty = Matrix(torch.zeros(0, 0, dtype=torch.float64), ZERO)
        return [
            Matrix(gradients[n], self._error(n)) if n in gradients else empty for n in names
        ]  # fmt: skip

    def _gradients(self, names: list[str], count: int) -> dict[str, Tensor]:
        if not names:
            return {}
        with torch.enable_grad():
            environment: dict[str, Any] = {}
            for anchor in self.anchors:
                environment[anchor.node] = torch.zeros(anchor.shape, dtype=torch.float64, requires_grad=True)
            for node in self.nodes:
                args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: self._read(n, environment))  # pyright: ignore
                environment[node.name] = cast("Any", node.target)(*wide(args), **wide(kwargs))
            output = environment[self.value.node].reshape(-1)[:count]
            inputs = [environment[n] for n in names]
            found: list[list[Tensor]] = [[] for _ in names]
            widest = max(t.numel() for t in environment.values() if isinstance(t, Tensor))
            chunk = max(1, _CHUNK // widest)
            for start in range(0, count, chunk):
                seeds = torch.eye(count, dtype=torch.float64)[start : start + chunk]
                gradients = cast(
                    "tuple[Tensor | None, ...]",
                    torch.autograd.grad(
                        output, inputs, seeds, retain_graph=True, allow_unused=True, is_grads_batched=True
                    ),
                )
                for kept, gradient, x in zip(found, gradients, inputs, strict=True):
                    unused = gradient is None
                    kept.append(x.new_zeros(len(seeds), x.numel()) if unused else gradient.reshape(len(seeds), -1))
        return {n: torch.cat(kept).detach() for n, kept in zip(names, found, strict=True)}

    def _read(self, node: fx.Node, environment: dict[str, Any]) -> Any:
        if node.name in environment:
            return environment[node.name]
        found = concrete(self.values[node.name], IMAGES)
        return found.double() if isinstance(found, Tensor) and found.is_floating_point() else found

    def _error(self, start: str) -> Bounds:
        """gamma_N (P_2, P_inf, P_1) from one node of the segment to its end."""
        reach: dict[str, Bounds] = {start: ONE}
        roundings = 4
        for node in self.nodes:
            value = self.values[node.name]
            if node.name == start or not isinstance(value, Value):
                continue
            terms = [gain.times(reach[source]) for source, gain in value.sources if source in reach]
            if terms:
                reach[node.name] = Bounds(*(total(*(t[n] for t in terms)) for n in ("l2", "linf", "l1")))
                roundings += 8 + value.size + sum(self.values[s].size for s, _ in value.sources)
        whole = reach.get(self.value.node, ZERO)
        g = gamma(roundings)
        l1, linf = product(g, whole.l1), product(g, whole.linf)
        return Bounds(product(root(l1), root(linf)), linf, l1)


def norms(matrix: Matrix, tol: float) -> Bounds:
    """||T||, the error included, in all norms."""
    blocks = _blocks(matrix.entries)
    found = [ZERO]
    for block in blocks:
        if not block.numel():
            continue
        dense = Dense(block)
        l2 = operator_norm(dense, "l2", tol=tol).upper
        found.append(Bounds(l2, operator_norm(dense, "linf").upper, operator_norm(dense, "l1").upper))
    widest = found[0]
    for bounds in found[1:]:
        widest = widest.largest(bounds)
    return widest.plus(matrix.error)


def _blocks(entries: Tensor) -> list[Tensor]:
    """The diagonal blocks of the images, where the images do not mix (they should not)."""
    outputs, inputs = entries.shape
    if outputs % IMAGES or inputs % IMAGES:
        return [entries]
    o, i = outputs // IMAGES, inputs // IMAGES
    grid = entries.reshape(IMAGES, o, IMAGES, i)
    mixed = any(bool(grid[a, :, b].any()) for a in range(IMAGES) for b in range(IMAGES) if a != b)
    if mixed:
        return [entries]
    blocks = [grid[a, :, a] for a in range(IMAGES)]
    return blocks[:1] if all(torch.equal(blocks[0], b) for b in blocks[1:]) else blocks


def row_norms(rows: Tensor, error: float) -> dict[BoundNorm, Tensor]:
    """The l2, l1 and l-infinity norms of rows, at least: (n, k) float64 -> (n,) each.

    Args:
        rows: as computed.
        error: no norm of the error of a row is larger.
    """
    k = rows.shape[1]
    factor = 1 + 2 * gamma(k + 8)
    found: dict[BoundNorm, Tensor] = {
        "l2": torch.linalg.vector_norm(rows, dim=1) if k else rows.new_zeros(len(rows)),
        "l1": rows.abs().sum(1),
        "linf": rows.abs().amax(1) if k else rows.new_zeros(len(rows)),
    }
    found["l2"] = torch.maximum(found["l2"], found["linf"])  # squares of tiny entries underflow
    some = (found["linf"] > 0) * _UNDERFLOW
    widened: dict[BoundNorm, Tensor] = {n: v * factor + some + (up(error) if error else 0.0) for n, v in found.items()}
    return widened


def _is_computed(known: Any) -> bool:
    return isinstance(known, Value) or (
        isinstance(known, list | tuple) and any(_is_computed(k) for k in cast("list[Any]", known))
    )
