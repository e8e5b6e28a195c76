"""One random network against its bounds, with everything that gradient ascent over pairs can find."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from robcert.bounds.lipschitz.network_bound import graph_bound
from robcert.nn.normalisation import LargestScaleNorm
from robcert.nn.ranges import Ranged
from robcert.types import BOUND_NORMS, BoundNorm

from .ascent import CLOSEST, length, ratios, search
from .random_networks import random_network

SHAPE = (2, 5, 5)
ROUNDING = 1e-9
"""Relative to the bound."""
COMPUTED = 1e-6
"""The same where a layer computes constants from its parameters: in float32 in the executed network, of which the bound
speaks, but in float64 in the copy that is searched."""
NOISE = 1e-11
"""What float64 logits of size 10 are off by, relative to a difference of inputs of at least `CLOSEST`."""


@dataclass(frozen=True)
class Outcome:
    """The largest found ratio over the bound, per norm, and what broke a bound."""

    share: dict[BoundNorm, float]
    broken: tuple[str, ...]
    finite: bool


def compare(steps: Sequence[str], head: str, seed: int) -> Outcome:
    """Bounds of the whole logit vector, of each logit and of each pair of logits, in all norms."""
    net = random_network(steps, head, seed, SHAPE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bound = graph_bound(net, SHAPE)
    pairs = search(net, SHAPE, seed=seed)
    computes = any(isinstance(layer, Ranged | LargestScaleNorm) for layer in net.modules())
    broken: list[str] = []
    share: dict[BoundNorm, float] = {}
    for norm in BOUND_NORMS:
        claimed = bound.bounds[norm]
        if not claimed.finite:
            continue
        found = float(ratios(pairs, norm).max())
        # Without the noise, or a network that is constant but for rounding would lead the list with 1e-14 over 1e-15.
        share[norm] = max(0.0, found - NOISE) / claimed.whole if claimed.whole else float(found > NOISE)
        slack = (COMPUTED if computes else ROUNDING) * claimed.whole + NOISE
        if found > claimed.whole + slack:
            broken.append(f"{norm}: ratio {found!r} above the bound {claimed.whole!r}")
        apart = length(pairs.inputs, norm)
        far = apart >= CLOSEST
        speed = pairs.logits[far] / apart[far, None]
        if bool((speed.abs().amax(0) > claimed.logits + slack).any()):
            broken.append(f"{norm}: a logit moves faster than its bound")
        between = (speed[:, :, None] - speed[:, None, :]).abs().amax(0)
        if bool((between > claimed.pairs + slack).any()):
            broken.append(f"{norm}: a difference of logits moves faster than its bound")
    return Outcome(share, tuple(broken), len(share) == len(BOUND_NORMS))
