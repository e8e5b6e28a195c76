"""From the bound of the features to the bounds of logits and of differences of logits.

The last ops of a classifier are linear: logits = T h + c with features h. What an attacker needs is to move a
difference f_i - f_j, and that moves by at most ||w_i - w_j||_dual L_h ||dx||, with the rows w of T. The
features can be cut anywhere in the linear head; every cut gives sound constants, and the smallest counts.

Source: L2-Nonexpansive Neural Networks, lemma 1 (whole vector) and lemma 6 (one bound a logit).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robcert.bounds.lipschitz.affine import Matrix, Segment, norms, row_norms
from robcert.bounds.lipschitz.domain import LipschitzDomain
from robcert.bounds.lipschitz.values import Bounds, Value, product, root, total
from robcert.math.rounding import up
from robcert.types import BOUND_NORMS, BoundNorm, dual

LIMIT = 1 << 23
"""The largest matrix from features to logits, in entries, that is formed."""


@dataclass(frozen=True)
class Cut:
    """logits = sum_k T_k h_k + c, with the bounds of the h_k.

    Attributes:
        matrices: one a feature tensor.
        bounds: likewise, from the input to h_k.
    """

    matrices: tuple[Matrix, ...]
    bounds: tuple[Bounds, ...]


class LinearHead:
    """The constants of logits and of pairs of logits.

    Args:
        cuts: at least one; the first has the features that `features` reports.
        whole: of the logit vector.
        features: the number of entries of one input.
        classes: the number of logits.
    """

    def __init__(self, cuts: list[Cut], whole: Bounds, features: int, classes: int) -> None:
        self.cuts = cuts
        self.inputs = features
        self.classes = classes
        self.logits: dict[BoundNorm, Tensor] = {}
        single = [self._moved(cut, None) for cut in cuts]
        for norm in BOUND_NORMS:
            rows = torch.stack([s[norm] for s in single]).amin(0)
            self.logits[norm] = torch.minimum(rows, torch.full_like(rows, whole[norm]))
        l2, linf, l1 = (self.logits[n] for n in BOUND_NORMS)
        self.whole = whole.smallest(
            Bounds(
                up(float(l2.square().sum().sqrt()), classes + 4),
                float(linf.max()),
                up(float(l1.sum()), classes),
            )
        )
        self._rows: dict[tuple[BoundNorm, int], tuple[Tensor, Tensor]] = {}

    def features(self, norm: BoundNorm) -> float:
        """The bound of the features of the first cut."""
        return total(*(bounds[norm] for bounds in self.cuts[0].bounds))

    def slope(self, norm: BoundNorm) -> float:
        """||e_i - e_j||_dual L: sqrt(2) L, 2 L (l-infinity), L (l1)."""
        return product({"l2": root(2.0), "linf": 2.0, "l1": 1.0}[norm], self.whole[norm])

    def pair_row(self, norm: BoundNorm, label: int) -> tuple[Tensor, Tensor]:
        """The smallest L_ij for i = ``label`` and all j, and which constant it is: (classes,) each."""
        if (norm, label) not in self._rows:
            own = torch.stack([self._moved(cut, label)[norm] for cut in self.cuts]).amin(0)
            logits = self.logits[norm]
            added = (logits + logits[label]) * (1 + 2.0**-51)
            whole = torch.full_like(own, self.slope(norm))
            smallest, which = torch.stack([own, added, whole]).min(0)
            smallest[label] = 0.0
            self._rows[norm, label] = smallest, which
        return self._rows[norm, label]

    def _moved(self, cut: Cut, label: int | None) -> dict[BoundNorm, Tensor]:
        """Return the constants of f_j (``label`` None), or of f_label - f_j, for all j: (classes,) a norm."""
        moved: dict[BoundNorm, Tensor] = {norm: torch.zeros(self.classes, dtype=torch.float64) for norm in BOUND_NORMS}
        for matrix, bounds in zip(cut.matrices, cut.bounds, strict=True):
            rows, error = matrix.entries, matrix.row_error
            if label is not None:
                rows, error = rows[label] - rows, 2 * error
            lengths = row_norms(rows, error)
            for norm in BOUND_NORMS:
                # Any norm of the features will do: ||x||_2 <= ||x||_1, ||x||_inf and ||x||_inf <= ||x||_2 <=
                # sqrt(n) ||x||_inf, ||x||_1 <= sqrt(n) ||x||_2 turn the one bound into the other.
                ways = [
                    _scaled(lengths[dual(other)], product(self.change(norm, other), bounds[other]))
                    for other in BOUND_NORMS
                ]
                moved[norm] = (moved[norm] + torch.stack(ways).amin(0)) * (1 + 2.0**-51)
        return moved

    def change(self, norm: BoundNorm, other: BoundNorm) -> float:
        """Return the smallest c with ||x||_other <= c ||x||_norm for inputs x."""
        order = {"l1": 0, "l2": 1, "linf": 2}
        if order[other] >= order[norm]:
            return 1.0
        n = float(self.inputs)
        return n if {norm, other} == {"l1", "linf"} else root(n)


def _scaled(lengths: Tensor, factor: float) -> Tensor:
    """``lengths`` times ``factor``, rounded up; 0 stays 0."""
    scaled = lengths * factor * (1 + 2.0**-51)
    return torch.where(lengths == 0, torch.zeros_like(scaled), scaled)


def linear_head(domain: LipschitzDomain, logits: Value) -> LinearHead:
    """The linear head in front of ``logits``, cut at every place where all of it passes through one tensor.

    Where there is none, the logits are their own features.
    """
    classes = logits.shape[-1]
    anchors = [domain.values[name] for name in sorted(logits.affine)]
    eye = Matrix(torch.eye(classes, dtype=torch.float64), Bounds(0.0, 0.0, 0.0))
    cuts = [Cut((eye,), (logits.bounds,))]
    whole = logits.bounds
    if logits.node not in logits.affine:
        segment = Segment(domain.graph, domain.values, logits, anchors)
        chain = _chain(domain, logits, segment.stops)
        matrices = segment.matrices(classes, chain, LIMIT)
        if matrices is not None:
            matrices = [Matrix(m.entries[:, m.entries.any(0)], m.error) for m in matrices]
            own, inner = matrices[: len(anchors)], matrices[len(anchors) :]
            found = [Cut((m,), (domain.values[n].bounds,)) for n, m in zip(chain, inner, strict=True) if len(m.entries)]
            if all(len(m.entries) for m in own):
                found.append(Cut(tuple(own), tuple(a.bounds for a in anchors)))
            cuts = found[:1] + cuts + found[1:] if found else cuts
            for cut in found:
                whole = whole.smallest(_whole(cut, domain.tol))
    return LinearHead(cuts, whole, domain.features, classes)


def _chain(domain: LipschitzDomain, logits: Value, stops: set[str]) -> list[str]:
    """The nodes in front of the logits that all of the head passes through, the last one first."""
    found: list[str] = []
    value = logits
    while len(value.sources) == 1:
        value = domain.values.get(value.sources[0][0])
        if not isinstance(value, Value) or value.node in stops:
            break
        if not found or value.size != domain.values[found[-1]].size:  # a reshape is no other cut
            found.append(value.node)
    return found


def _whole(cut: Cut, tol: float) -> Bounds:
    """sum_k ||T_k|| bounds(h_k)."""
    parts = [norms(m, tol).times(b) for m, b in zip(cut.matrices, cut.bounds, strict=True)]
    return Bounds(*(total(*(p[n] for p in parts)) for n in BOUND_NORMS))
