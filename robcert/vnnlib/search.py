"""An attack on a property: projected gradient descent on its most violated constraint, from many starting points.

Source: the form is that of PGD (Madry et al. 2018) with the loss max_k (a_k f(x) - b_k), as verifiers use it to look
for counterexamples before they prove.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robcert.types import LoadedModel
from robcert.vnnlib import Region
from robcert.vnnlib.outputs import Head, answered

_ENTRIES = 2**22
"""Entries of all starting points of one batch together."""


def bounds32(region: Region, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The float32 numbers nearest to the ends of the box, inside it (the nearest at all where none is inside)."""
    low, high = (torch.tensor(v, dtype=torch.float64).reshape(shape) for v in (region.low, region.high))
    low32, high32 = low.float(), high.float()
    inner_low = torch.where(low32.double() < low, torch.nextafter(low32, torch.full_like(low32, math.inf)), low32)
    inner_high = torch.where(
        high32.double() > high, torch.nextafter(high32, torch.full_like(high32, -math.inf)), high32
    )
    empty = inner_low > inner_high
    return torch.where(empty, low32, inner_low), torch.where(empty, low32, inner_high)


def violations(region: Region, outputs: Tensor) -> Tensor:
    """Return how far each constraint is from holding: (n, constraints); at most 0 where it holds."""
    columns: list[Tensor] = []
    for constraint in region.constraints:
        total = torch.zeros_like(outputs[:, 0])
        for index, factor in constraint.coefficients:
            total = total + factor * outputs[:, index]
        columns.append(total - constraint.bound)
    return torch.stack(columns, 1) if columns else outputs.new_zeros(len(outputs), 0)


def holds(region: Region, outputs: Tensor) -> Tensor:
    """Return whether all constraints hold, per row, in float64: (n,) bool."""
    found = violations(region, outputs.double())
    strict = torch.tensor([c.strict for c in region.constraints], dtype=torch.bool, device=found.device)
    return torch.where(strict, found < 0, found <= 0).all(1)


def search(
    model: LoadedModel,
    region: Region,
    head: Head = "none",
    *,
    iterations: int,
    restarts: int,
    seed: int,
) -> Tensor | None:
    """Return an input of the box whose executed outputs fulfil the constraints, or None if none was found.

    Args:
        model: the network.
        region: what is looked for.
        head: what makes the outputs of the logits.
        iterations: steps from each starting point; the step falls from a quarter of the box to nothing.
        restarts: starting points: the centre, corners and uniform draws.
        seed: of the draws.

    Returns:
        (1, *input_shape) float32.
    """
    device = next((p.device for p in model.module.parameters()), torch.device("cpu"))
    low, high = (b.to(device) for b in bounds32(region, model.input_shape))
    generator = torch.Generator().manual_seed(seed)
    at_once = max(1, min(restarts, _ENTRIES // max(1, low.numel())))
    for first in range(0, restarts, at_once):
        x = _starts(low, high, first, min(at_once, restarts - first), generator)
        best = _descend(model, region, head, x, low, high, iterations)
        if best is not None:
            return best
    return None


def _starts(low: Tensor, high: Tensor, first: int, count: int, generator: torch.Generator) -> Tensor:
    draws = torch.rand(count, *low.shape, generator=generator).to(low)
    if first == 0:
        draws[0] = 0.5
    draws[1::4] = draws[1::4].round()  # every fourth one is a corner
    return torch.clamp(low + draws * (high - low), low, high)


def _descend(
    model: LoadedModel, region: Region, head: Head, x: Tensor, low: Tensor, high: Tensor, iterations: int
) -> Tensor | None:
    for step in range(iterations + 1):
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            outputs = answered(head, model.module(x))
            found = violations(region, outputs)
        done = holds(region, outputs.detach())
        if bool(done.any()):
            candidate = x[done][:1].detach()
            # Alone, as it will be executed: the answer may differ in the last digits from that in a batch.
            with torch.no_grad():
                if bool(holds(region, answered(head, model.module(candidate)))[0]):
                    return candidate
        if step == iterations or not found.shape[1] or not found.requires_grad:  # no gradient: the draws alone
            return None
        # The largest violation says whether it is found; the others keep a direction where the largest has none.
        loss = found.max(1).values.sum() + 0.1 * found.clamp_min(0).sum()
        (gradient,) = torch.autograd.grad(loss, x)
        size = 0.25 * (1 + math.cos(math.pi * step / iterations)) / 2
        x = torch.clamp(x.detach() - size * (high - low) * gradient.sign(), low, high)
    return None
