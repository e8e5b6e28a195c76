"""The Lipschitz constant of a concatenation of values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from robcert.bounds.lipschitz.patterns import Complement, sorted_pair, two_sided
from robcert.bounds.lipschitz.values import ZERO, Bounds, Part, Value, root_of_squares, same, total
from robcert.math.rounding import up

if TYPE_CHECKING:
    from robcert.bounds.lipschitz.domain import LipschitzDomain


def concatenated(domain: LipschitzDomain, values: Sequence[Value]) -> Bounds:
    """The bound of the concatenation: root of the sum of squares (l2), largest (l-infinity), sum (l1).

    Better where the values belong together: the halves of a two-sided ReLU move as their input does (in
    every l_p), so do the larger and the smaller of two values, and values that read slices of one tensor
    count at each place of that tensor only if they read it there.
    """
    members = [domain.latest(v) for v in values]
    plain = _plain([m.bounds for m in members])
    members = _pairs_as_one(domain, members)
    groups: dict[str | None, list[Value]] = {}
    for member in members:
        groups.setdefault(member.part.root if member.part else None, []).append(member)
    found: list[Bounds] = []
    for name, group in groups.items():
        apart = _plain([m.bounds for m in group])
        if name is None:
            found.append(apart)
        else:
            together = _overlapping([m.part for m in group if m.part]).times(domain.values[name].bounds)
            found.append(together.smallest(apart))
    return plain.smallest(_plain(found))


def common_part(values: Sequence[Value], gain: Bounds) -> Part | None:
    """The slice that covers all slices that the values read, if they read one tensor along one axis."""
    parts = [v.part for v in values]
    first = parts[0]
    if first is None or any(p is None or (p.root, p.axis) != (first.root, first.axis) for p in parts):
        return None
    if any(p is not None and p.weights is not None for p in parts):
        return None  # what split meets again, and may split anew
    known = [p for p in parts if p is not None]
    return replace(first, start=min(p.start for p in known), stop=max(p.stop for p in known), gain=gain)


def concatenated_part(values: Sequence[Value]) -> Part | None:
    """Return the slice that a concatenation reads."""
    known = [v.part for v in values if v.part is not None]
    return common_part(values, _overlapping(known)) if len(known) == len(values) else None


def split_of(values: Sequence[Value]) -> str | None:
    """Return the name of the value that all values are slices of, read from it and none twice; else None."""
    parts = [value.part for value in values]
    known = [part for part in parts if part is not None and part.weights is None]
    if not known or len(known) < len(parts) or len({(part.root, part.axis) for part in known}) > 1:
        return None
    if any([name for name, _ in value.sources] != [known[0].root] for value in values):
        return None  # what was computed from a slice has errors of its own
    known.sort(key=lambda part: (part.start, part.stop))
    return known[0].root if all(one.stop <= two.start for one, two in pairwise(known)) else None


def sum_part(values: Sequence[Value]) -> Part | None:
    """Return the slice that a sum reads."""
    gain = ZERO
    for value in values:
        gain = gain.plus(value.part.gain if value.part else ZERO)
    return common_part(values, gain)


def _plain(bounds: Sequence[Bounds]) -> Bounds:
    return Bounds(
        root_of_squares(*(b.l2 for b in bounds)),
        max((b.linf for b in bounds), default=0.0),
        total(*(b.l1 for b in bounds)),
    )


def _overlapping(parts: Sequence[Part]) -> Bounds:
    """Sup ||(g_i d r[slice_i])_i|| / ||d r||: per place, the gains of the slices that contain it."""
    if any(p.weights is not None for p in parts):
        return _weighted(parts)
    if len({p.axis for p in parts}) > 1:
        return _plain([p.gain for p in parts])
    edges = sorted({p.start for p in parts} | {p.stop for p in parts})
    worst = ZERO
    for start, stop in pairwise(edges):
        here = [p.gain for p in parts if p.start <= start and stop <= p.stop]
        worst = worst.largest(_plain(here))
    # In l-infinity it is the largest gain, also of a slice without entries.
    return replace(worst, linf=max((p.gain.linf for p in parts), default=0.0))


def _weighted(parts: Sequence[Part]) -> Bounds:
    """Sup ||(g_k w_k d r)_k|| / ||d r||: per entry, the weighted gains of all parts; a slice counts as the whole."""
    gains = [
        [p.gain[norm] * (torch.ones((), dtype=torch.float64) if p.weights is None else p.weights) for p in parts]
        for norm in ("l2", "linf", "l1")
    ]
    l2, linf, l1 = gains
    squares, total_l1, most = l2[0].square(), l1[0], linf[0]
    for two, one, infinite in zip(l2[1:], l1[1:], linf[1:], strict=True):
        squares, total_l1, most = squares + two.square(), total_l1 + one, torch.maximum(most, infinite)
    found = (float(squares.max()) ** 0.5, float(most.max()), float(total_l1.max()))
    # Infinite gains times weights of zero are no number; underflow is lost in a root of at least 2^-500.
    usable = all(math.isfinite(f) for f in found) and found[0] > 2.0**-500
    if not usable:
        return _plain([p.gain.times(same(1.0 if p.weights is None else up(float(p.weights.max())))) for p in parts])
    # Each step is one rounding, at most as many as there are parts.
    return Bounds(*(up(f, 4 + 2 * len(parts)) for f in found))


def _pairs_as_one(domain: LipschitzDomain, members: list[Value]) -> list[Value]:
    """Members with every pair that moves no more than what it was made of replaced by that."""
    for i, one in enumerate(members):
        for j in range(i + 1, len(members)):
            origin = _origin(one, members[j]) or _origin(members[j], one)
            if origin is not None:
                rest = [m for k, m in enumerate(members) if k not in (i, j)]
                for half in (one, members[j]):
                    domain.rows.pop(half.node, None)
                return _pairs_as_one(domain, [*rest, *(domain.latest(o) for o in origin)])
    return members


def _origin(one: Value, other: Value) -> tuple[Value, ...] | None:
    """Return the values that two were made of, if together they move no more than those in every l_p."""
    both = two_sided((one, other))
    if both is not None:
        return (both,)
    complement = one.find(Complement)
    if complement and complement.function == other.node:
        return (complement.of,)
    return sorted_pair((one, other))
