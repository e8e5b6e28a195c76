r"""The largest of several entries, and perhaps 0, between two planes in all of them.

Let :math:`u_{ij} \ge x_i - x_j` for all inputs of the region, and :math:`\lambda, \mu \ge 0` with sum 1. Then

.. math:: \sum_j \mu_j x_j \le \max_i x_i \le \sum_j \lambda_j x_j + \max_i \sum_j \lambda_j u_{ij},

since :math:`x_i = \sum_j \lambda_j x_j + \sum_j \lambda_j (x_i - x_j)`. Linear bounds of the differences are much
tighter than differences of bounds: neighbours in a picture rise and fall together. The least constant is the value of
the matrix game u; of two entries its plane is the chord of ReLU. Weights are free: ascent looks for the best ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from robcert.bounds.linear.coefficients import Rows
from robcert.bounds.linear.inputs import Region
from robcert.bounds.linear.step import Adjustable, Interval, Pulled
from robcert.math.rounding import gamma

_ROUNDS = 64
_LEAST = 1e-6
"""No weight is smaller while it is adjusted, so that their sum is positive."""


@dataclass(frozen=True, eq=False)
class Contest:
    """What is known about the k entries of every window; the windows are the last axis, along which all runs.

    Attributes:
        lead: (n, k, k, outputs), u; 0 where an entry is not kept.
        kept: (n, k, outputs) bool: one of these is the largest.
        middle: (n, k, outputs), of the interval of an entry.
        slack: (n, outputs), what rounding can move a plane by.
    """

    lead: Tensor
    kept: Tensor
    middle: Tensor
    slack: Tensor

    @cached_property
    def weights(self) -> Tensor:
        """Where an ascent begins: those with the least constant, and the entry that is the largest in the middle."""
        best = self.middle.masked_fill(~self.kept, -math.inf).argmax(1, keepdim=True)
        below = torch.zeros_like(self.middle).scatter_(1, best, 1.0)
        return torch.stack([balanced(self.lead, self.kept), below], 1)


@dataclass(frozen=True, eq=False)
class Maximum(Adjustable):
    """The largest entry of each window; it reads the entries, and their differences, which no coefficient goes back to.

    Attributes:
        index: (m, outputs) int64, positions in one flattened image of the source; -1 is no entry.
        leads: (k, k, outputs) int64, where u is found among the ends of differences and entries (`_lead`).
        floor: 0 is one more entry, the last of k.
        in_shape: of the source, one image.
    """

    index: Tensor
    leads: Tensor
    floor: bool
    in_shape: tuple[int, ...]

    through: ClassVar[bool] = True

    @property
    def roundings(self) -> int:
        """Sums over the entries of a window; the constant is one over all windows."""
        return math.prod(self.shape) + 16 * len(self.leads) + 32

    def interval(self, given: list[Interval], region: Region) -> Interval:
        """The largest of the lower ends, and of the upper ends."""
        low, high = (self._entries(side, -math.inf).amax(1) for side in (given[0].lower, given[0].upper))
        return Interval(low.view(-1, *self.shape), high.view(-1, *self.shape))

    def relax(self, given: list[Interval]) -> Contest:
        """Which entries count, and by how much they may lead."""
        x = given[0]
        lead = self._lead(given)
        kept = _undominated(lead, self._present.expand(len(lead), -1, -1))
        lead = torch.where(kept.unsqueeze(2) & kept.unsqueeze(1), lead, 0.0)
        size = x.largest.unsqueeze(1) + lead.abs().flatten(1, 2).amax(1)
        slack = torch.where(kept.sum(1) > 1, gamma(8 * len(self.leads) + 32) * size, 0.0)
        return Contest(lead, kept, self._entries(x.lower / 2 + x.upper / 2, 0.0), slack)

    def contenders(self, x: Interval) -> Tensor:
        """Return which entries (n, *in_shape) bool may be the largest of a window with several such."""
        low, high = self._entries(x.lower, -math.inf), self._entries(x.upper, -math.inf)
        may = (high > low.amax(1, keepdim=True)) & self._present
        may &= may.sum(1, keepdim=True) > 1
        return self._added(may[:, : len(self.index)].double().unsqueeze(1)).squeeze(1) > 0

    def magnitude(self, given: list[Interval], relaxed: Contest) -> Tensor:
        """Weights times entries, and the constant."""
        return given[0].largest * 1.001 + relaxed.lead.abs().flatten(1).amax(1) + relaxed.slack.amax(1)

    def start(self, relaxed: Contest, before: Tensor | None = None) -> Tensor:
        """The weights: (n, 2, k, outputs), of the upper plane and of the lower one."""
        return relaxed.weights if before is None else before.double()

    def confined(self, parameters: Tensor) -> Tensor:
        """Positive."""
        return parameters.clamp(_LEAST, 1.0)

    def pull(self, rows: Rows, relaxed: Contest) -> Pulled:
        """The same with the weights that a contest begins with."""
        return self.pull_at(rows, relaxed, relaxed.weights.unsqueeze(1))

    def pull_at(self, rows: Rows, relaxed: Contest, parameters: Tensor) -> Pulled:
        """Positive coefficients take the lower plane, negative ones the upper plane."""
        shares = _shares(parameters, relaxed.kept)
        above, below = shares[:, :, 0], shares[:, :, 1]
        behind = (relaxed.lead.unsqueeze(1) * above.unsqueeze(2)).sum(3)
        shift = behind.masked_fill(~relaxed.kept.unsqueeze(1), -math.inf).amax(2) + relaxed.slack.unsqueeze(1)
        flat = rows.a.flatten(2)
        positive, negative = flat.clamp_min(0), flat.clamp_max(0)
        constant = (negative * shift).sum(2) - (positive * relaxed.slack.unsqueeze(1)).sum(2)
        entries = positive.unsqueeze(2) * below + negative.unsqueeze(2) * above
        return Pulled([Rows(self._added(entries[:, :, : len(self.index)])), None], constant)

    def loose(self, given: list[Interval], relaxed: Contest) -> list[Tensor]:
        """Entries that are compared with 0, and differences, of which both sides may be the largest."""
        undecided = (relaxed.lead > 0) & (relaxed.lead.transpose(1, 2) > 0)
        return [found > 0 for found in self._by_source(given, undecided.double())]

    def costs(self, given: list[Interval], relaxed: Contest, a: Tensor, parameters: Tensor | None) -> list[Tensor]:
        """What the chord of two entries alone would cost, weighed by their shares of the upper plane."""
        one, other = relaxed.lead.clamp_min(0), relaxed.lead.transpose(1, 2).clamp_min(0)
        chord = one * other / (one + other).clamp_min(1e-300)
        free = relaxed.weights.unsqueeze(1) if parameters is None else parameters
        above = _shares(free, relaxed.kept)[:, 0, 0]
        size = (-a.clamp_max(0) + 0.5 * a.clamp_min(0)).flatten(1)
        return self._by_source(given, chord * (above.unsqueeze(2) + above.unsqueeze(1)) * size[:, None, None])

    @cached_property
    def _present(self) -> Tensor:
        """(k, outputs) bool: entries that there are."""
        return torch.cat([self.index >= 0, torch.ones(int(self.floor), self.index.shape[1], dtype=torch.bool)])

    @cached_property
    def _homes(self) -> Tensor | None:
        """(entries of the source,): its place among the entries of windows (behind them: none); None where several."""
        flat = self.index.flatten()
        places = (flat >= 0).nonzero().flatten()
        if len(flat[places].unique()) < len(places):
            return None
        homes = torch.full((math.prod(self.in_shape),), len(flat))
        homes[flat[places]] = places
        return homes

    def _added(self, entries: Tensor) -> Tensor:
        """(n, rows, m, outputs) -> (n, rows, *in_shape): every entry of a window to where it comes from."""
        flat = entries.flatten(2)
        if self._homes is not None:
            padded = torch.cat([flat, flat.new_zeros(*flat.shape[:2], 1)], 2)
            return padded[..., self._homes].unflatten(2, self.in_shape)
        places = (self.index.flatten() >= 0).nonzero().flatten()
        out = flat.new_zeros(*flat.shape[:2], math.prod(self.in_shape))
        return out.index_add(2, self.index.flatten()[places], flat[..., places]).unflatten(2, self.in_shape)

    def _entries(self, x: Tensor, missing: float) -> Tensor:
        """(n, *in_shape) -> (n, k, outputs)."""
        flat = torch.cat([x.flatten(1), x.new_tensor([missing, 0.0]).expand(len(x), -1)], 1)
        places = torch.where(self.index < 0, flat.shape[1] - 2, self.index)
        zero = torch.full((int(self.floor), self.index.shape[1]), flat.shape[1] - 1)
        return flat[:, torch.cat([places, zero])]

    def _lead(self, given: list[Interval]) -> Tensor:
        """(n, k, k, outputs): u, found among the upper ends of differences, the lower ones, those of entries, and 0."""
        x, differences = given
        ends = [differences.upper, -differences.lower, x.upper, -x.lower]
        flat = torch.cat([*(end.flatten(1) for end in ends), x.lower.new_zeros(len(x.lower), 1)], 1)
        return flat[:, self.leads]

    def _by_source(self, given: list[Interval], values: Tensor) -> list[Tensor]:
        """Numbers of pairs, (n, k, k, outputs), added up for entries (those compared with 0) and for differences."""
        x, differences = given
        n, pairs, entries = len(values), differences.lower[0].numel(), x.lower[0].numel()
        flat = values.new_zeros(n, 2 * pairs + 2 * entries + 1).index_add_(1, self.leads.flatten(), values.flatten(1))
        of_pairs, of_entries = flat[:, :pairs], flat[:, 2 * pairs : 2 * pairs + entries]
        return [of_entries.view_as(x.lower), of_pairs.view_as(differences.lower)]


def balanced(lead: Tensor, kept: Tensor, rounds: int = _ROUNDS) -> Tensor:
    """Return weights that all but minimise max_i sum_j w_j lead_ij over the entries that are kept.

    Both sides of the matrix game play regret matching+ in turns, with averages that grow linearly.

    Source: Tammelin, Solving Large Imperfect Information Games Using CFR+, 2014.

    Args:
        lead: (n, k, k, outputs).
        kept: (n, k, outputs) bool.
        rounds: of both sides.

    Returns:
        (n, k, outputs), with sum 1.
    """
    even = kept.double() / kept.sum(1, keepdim=True)
    if not bool((kept.sum(1) > 1).any()):
        return even
    row, column = even, even
    regret_row, regret_column, total = torch.zeros_like(even), torch.zeros_like(even), torch.zeros_like(even)
    for turn in range(1, rounds + 1):
        gain = (lead * column.unsqueeze(1)).sum(2)
        regret_row = (regret_row + gain - (row * gain).sum(1, keepdim=True)).clamp_min(0) * kept
        row = _normalised(regret_row, even)
        loss = (lead * row.unsqueeze(2)).sum(1)
        regret_column = (regret_column - loss + (column * loss).sum(1, keepdim=True)).clamp_min(0) * kept
        column = _normalised(regret_column, even)
        total += turn * column
    return total / total.sum(1, keepdim=True)


def _normalised(values: Tensor, otherwise: Tensor) -> Tensor:
    total = values.sum(1, keepdim=True)
    return torch.where(total > 0, values / total.clamp_min(1e-300), otherwise)


def _shares(parameters: Tensor, kept: Tensor) -> Tensor:
    """Weights (n, rows or 1, 2, k, outputs) of the entries that are kept, with sum 1."""
    own = parameters * kept.unsqueeze(1).unsqueeze(1)
    return own / own.sum(3, keepdim=True)


def _undominated(lead: Tensor, present: Tensor) -> Tensor:
    """Entries (n, k, outputs) bool among which the largest is: one that never leads another kept one is left out.

    One after the other, so that of entries that are always equal one stays.
    """
    kept = present.clone()
    for i in range(kept.shape[1]):
        below = (lead[:, i] <= 0) & kept
        below[:, i] = False
        kept[:, i] &= ~below.any(1)
    return kept
