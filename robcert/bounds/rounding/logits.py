r"""A bound of the distance of the executed float32 network from that in real arithmetic, proven before it is run.

One more pass over the graph: with x^ the executed and x the exact value of a node, d a bound of ||x^ - x||_2 and r one
of ||x||_2, for one image and every input in the box,

    d(node) <= sum over what it reads of gain d(input) + local rounding of ||x^|| <= r + d,
    r(node) <= ||h(c)||_2 + L(node) ||x - c||_2    (c the centre of the box, h(c) in float64),

with the gains and constants L of the Lipschitz pass and the local rounding of `robcert.bounds.rounding.rules`.
The proofs, and what is assumed of the kernels, are in docs/soundness.md, section 6.

Source: the layer-by-layer form is that of Murray (arXiv 2603.13334); the constants are derived anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from robcert.bounds.rounding.analysis import Analysis, RoundingBound
from robcert.bounds.rounding.constants import check_constants
from robcert.bounds.rounding.kernels import check_kernels, device_of
from robcert.bounds.rounding.rules import FLOAT64
from robcert.graph.fingerprint import fingerprint
from robcert.math.rounding import up
from robcert.network.fold import copy_module
from robcert.types import BoundNorm, LoadedModel

__all__ = [
    "Analysis",
    "RoundingBound",
    "analyse",
    "gap_error64",
    "l2_reach",
    "logit_rounding",
    "logit_rounding_at",
    "logits64",
    "network64",
    "pair_rounding_near",
]

_CHUNK = 128
_STEP = 2.0 ** (1 / 16)
"""Distances from a centre are rounded up to a power of this, so that many images share one pass over the graph."""
_KNOWN: WeakKeyDictionary[nn.Module, tuple[tuple[Any, ...], Analysis, RoundingBound]] = WeakKeyDictionary()


def analyse(model: LoadedModel) -> tuple[Analysis, RoundingBound]:
    """Return the analysis of a network and its bound over the whole box, kept as long as the network is unchanged."""
    key = (model.name, *fingerprint(model))
    found = _KNOWN.get(model.module)
    if found is None or found[0] != key:
        analysis = Analysis(model)
        found = key, analysis, analysis.bound()
        _KNOWN[model.module] = found
    return found[1:]


def logit_rounding(model: LoadedModel) -> RoundingBound:
    """Return a bound of the error of the executed float32 logits, for every input in the box.

    Raises:
        EvaluationError: an op without a rounding rule (named), without a finite Lipschitz constant, a layer that may
            amplify rounding without a bound, or a setting of torch under which the bound would not hold
            (`robcert.bounds.rounding.kernels`).
    """
    analysis, bound = analyse(model)
    if not math.isfinite(bound.error):
        raise analysis.refusal()
    check_constants(model.name, analysis.computed, analysis.graph)
    check_kernels(device_of(model), convolutions=analysis.convolutions, name=model.name)
    return bound


def logit_rounding_at(model: LoadedModel, x: Tensor, reach: float) -> Tensor:
    """The same for all inputs within l2 distance ``reach`` of each image, usually a little less.

    Args:
        model: the network.
        x: (n, *input_shape).
        reach: not negative.

    Returns:
        (n,) float64, never more than ``logit_rounding(model).error``.
    """
    analysis, _ = analyse(model)
    most = logit_rounding(model).error
    return torch.tensor([min(most, analysis.at(image, reach)[0]) for image in x], dtype=torch.float64)


def pair_rounding_near(model: LoadedModel, x: Tensor, reach: Tensor) -> Tensor:
    """Return bounds of the error of the difference of two executed logits, for many images, each with its own reach.

    Coarser than `logit_rounding_at`, at the price of a few passes for all.

    An image is placed by its distance from two centres, the picture of the lowest value of the box (black) and that of
    the middle one. What holds within a distance of a centre holds around every image that is nearer by its reach.
    It depends on the image alone, not on those beside it.

    Args:
        model: the network.
        x: (n, *input_shape).
        reach: (n,) float64, l2 distances; infinite: the whole box.

    Returns:
        (n,) float64, never more than ``logit_rounding(model).pair``.
    """
    analysis, _ = analyse(model)
    error = torch.full((len(x),), logit_rounding(model).pair, dtype=torch.float64)
    low, high = model.box
    for centre in (low, low / 2 + high / 2):
        picture = torch.full(model.input_shape, centre, dtype=torch.float64)
        # The rounding of a norm of n entries, of the sum and of the logarithm lies far below 2^-20 of it.
        distance = (torch.linalg.vector_norm((x.cpu().double() - centre).flatten(1), dim=1) + reach) * (1 + 2.0**-20)
        whole = math.sqrt(analysis.entries) * max(high - centre, centre - low)
        shells = (distance.clamp_min(whole * 2.0**-20).log2() / math.log2(_STEP)).ceil()
        shells[distance >= whole] = math.inf
        for shell in shells[torch.isfinite(shells)].unique().tolist():
            rows = shells == shell
            error[rows] = error[rows].clamp_max(analysis.at(picture, _STEP**shell)[1])
    return error


def l2_reach(radius: Tensor, norm: BoundNorm, entries: int) -> Tensor:
    """Return the l2 radii, rounded up, of balls with radii (n,) in a norm, for images of so many entries."""
    return radius * math.sqrt(entries) * (1 + 2.0**-40) if norm == "linf" else radius * (1 + 2.0**-40)


def gap_error64(model: LoadedModel) -> float:
    """Return a bound of the error of a difference of two logits that is evaluated in float64.

    For logits from `logits64` (or the module in float64, where that is the same) at any input in the box: the errors
    of both logits and the rounding of the subtraction.
    """
    _, bound = analyse(model)
    return up(2 * bound.error64 + FLOAT64.u * (2 * bound.size + 2 * bound.error64), 8)


def logits64(model: LoadedModel, x: Tensor) -> Tensor:
    """Return float64 logits of the network that bounds speak of: (n, *input_shape) -> (n, classes), on the CPU."""
    return network64(model)(x)


def network64(model: LoadedModel) -> Callable[[Tensor], Tensor]:
    """Return the function that `logits64` calls, for many calls.

    A copy of the module in float64; but where the float32 network computes constants from its weights, or casts, its
    graph with these constants as float32 computes them, and without the casts.
    """
    analysis, _ = analyse(model)
    if analysis.computed or analysis.casts:
        return analysis.logits64
    try:
        module = copy_module(model.module).cpu().double()
    except Exception:  # a program whose types are fixed
        return analysis.logits64

    @torch.no_grad()
    def evaluate(x: Tensor) -> Tensor:
        try:
            parts = [module(part.cpu().double()) for part in x.split(_CHUNK)]
        except Exception:  # likewise
            return analysis.logits64(x)
        return torch.cat(parts) if parts else torch.zeros(0, model.num_classes, dtype=torch.float64)

    return evaluate
