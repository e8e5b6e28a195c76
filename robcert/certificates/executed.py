r"""From radii in real arithmetic to those of the executed network, for certificates from Lipschitz constants.

In the ball that is proven in real arithmetic a difference of two executed logits is off by at most D, so that the
answer stands while :math:`L_{yj} \|x' - x\| < f_y - f_j - D`. There are three bounds of D, cheap ones first, and a
dearer one is computed only for images for which rounding, by those before it, decides what is asked:

1. from norms (`robcert.bounds.rounding.logits`), a few passes for all images;
2. entry by entry, over the intervals of the ball, two passes an image;
3. the same, carried back from the difference of two logits, a pass more for each class.

Rounding decides where a budget lies between both radii, or, if the largest radius is asked for, where it costs more
than the tolerance of the search. In an attack, which asks for budgets, a network whose real radii do not reach them
costs nothing more, whatever its size.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from robcert.bounds.linear.backward import ENTRIES
from robcert.bounds.linear.bounds import relax
from robcert.bounds.linear.inputs import Region, region
from robcert.bounds.linear.program import Program, program, refusal
from robcert.bounds.linear.value_errors import difference_errors, value_errors
from robcert.bounds.rounding.logits import l2_reach, pair_rounding_near
from robcert.certificates import Search
from robcert.certificates.margins import pairs
from robcert.errors import EvaluationError
from robcert.threats.kind import norm_of
from robcert.types import BoundNorm, LoadedModel

_BATCH = 64

Reach = Callable[[Tensor], Tensor]
"""What differences of two executed logits may be off by, (n, classes) -> radii to each other class, (n, classes)."""


def executed_radii(
    model: LoadedModel, x: Tensor, y: Tensor, norm: BoundNorm, real: Tensor, reach: Reach, search: Search
) -> Tensor:
    """Return radii of the executed network.

    An image's radius depends on those beside it in its last digits alone.

    Args:
        model: the network; it has a bound of the rounding of its logits.
        x: (n, *shape).
        y: (n,) int64, on the CPU.
        norm: of the balls.
        real: (n,), what is proven in real arithmetic; 0 where nothing is.
        reach: the radii for given errors.
        search: what is asked.

    Returns:
        (n,) float64, not yet rounded down; 0 where nothing is proven.
    """
    near = pair_rounding_near(model, x, l2_reach(real, norm, math.prod(model.input_shape)))
    errors = near.unsqueeze(1).repeat(1, model.num_classes)
    goal = needed(real, search).unsqueeze(1)
    widest = norm_of(norm).diameter(model.input_shape, model.box)
    for carried in (False, True):
        short = reach(errors) < goal
        rows = short.any(1).nonzero().flatten()
        network = _network(model) if len(rows) else None
        if network is None:
            break
        for part in rows.split(max(1, min(_BATCH, ENTRIES // (model.num_classes * network.widest)))):
            ball = region(x[part], real[part].clamp_max(widest), norm, model.box)
            found = _carried(network, ball, y[part], short[part]) if carried else _entrywise(network, ball, y[part])
            errors[part] = torch.where(short[part] & (found < errors[part]), found, errors[part])
    return reach(errors).amin(1) * (real > 0)


def needed(real: Tensor, search: Search) -> Tensor:
    """Return the radii from which on rounding decides nothing that is asked: (n,), at most ``real``."""
    goal = torch.zeros_like(real)
    for eps in search.eps:
        goal = torch.where(real > eps, torch.full_like(real, eps * (1 + 2.0**-40)), goal)
    if search.largest:
        goal = torch.maximum(goal, real * (1 - search.tolerance))
    return torch.minimum(goal, real)


def _network(model: LoadedModel) -> Program | None:
    """The steps of a network; None where they do not say what its execution rounds."""
    try:
        return None if refusal(model) else program(model)
    except EvaluationError:
        return None


@torch.no_grad()
def _entrywise(network: Program, ball: Region, y: Tensor) -> Tensor:
    """The sum of the errors of both logits: (n, classes), infinite where nothing is known."""
    found = relax(network, ball, "ibp")
    error = value_errors(found)[network.logits]
    both = (error + error.gather(1, y.unsqueeze(1))) * (1 + 2.0**-50)
    return torch.where(found.overflows.unsqueeze(1), math.inf, both)


@torch.no_grad()
def _carried(network: Program, ball: Region, y: Tensor, wanted: Tensor) -> Tensor:
    """The error of the difference of both logits, (n, classes), infinite where none is wanted (n, classes) bool."""
    found = relax(network, ball, "ibp")
    errors = value_errors(found)
    classes = wanted.any(0).nonzero().flatten()
    differences = pairs(y, wanted.shape[1])[:, classes]
    chunk = max(1, ENTRIES // (len(y) * network.widest))
    both = torch.full(wanted.shape, math.inf, dtype=torch.float64)
    both[:, classes] = torch.cat([difference_errors(found, rows, errors) for rows in differences.split(chunk, 1)], 1)
    return torch.where(found.overflows.unsqueeze(1), math.inf, both)
