"""The largest ratio ||f(x) - f(y)|| / ||x - y|| that gradient ascent over pairs finds, in float64."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robcert.types import BOUND_NORMS, BoundNorm

CLOSEST = 1e-3
"""Pairs are at least this far apart: closer, rounding would count."""


@dataclass(frozen=True)
class Pairs:
    """Differences of inputs and of logits: (n, features) and (n, classes) float64."""

    inputs: Tensor
    logits: Tensor


def length(x: Tensor, norm: BoundNorm) -> Tensor:
    return torch.linalg.vector_norm(x, {"l2": 2, "linf": torch.inf, "l1": 1}[norm], dim=1)


def search(module: nn.Module, shape: tuple[int, ...], *, seed: int, pairs: int = 12, steps: int = 12) -> Pairs:
    """Pairs that are far apart in the logits: from random points along the best direction of the Jacobian,
    and by ascent from there, for each norm."""
    exact = copy.deepcopy(module).double().eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    size = torch.rand(pairs, generator=generator, dtype=torch.float64) * 3
    x = (torch.randn(pairs, *shape, generator=generator, dtype=torch.float64)) * size.view(-1, *[1] * len(shape))
    found_x: list[Tensor] = []
    found_y: list[Tensor] = []
    for norm in BOUND_NORMS:
        y = x + _direction(exact, x, norm) * CLOSEST * 2
        a, b = x.clone().requires_grad_(), y.clone().requires_grad_()
        optimiser = torch.optim.Adam([a, b], lr=0.02)
        for step in range(steps + 1):
            found_x.append(a.detach().clone())
            found_y.append(b.detach().clone())
            if step == steps:
                break
            apart = length((a - b).flatten(1), norm)
            ratio = length(exact(a + 0) - exact(b + 0), norm) / apart.clamp_min(CLOSEST)
            loss = -ratio.clamp_min(1e-12).log().sum()
            optimiser.zero_grad()
            loss.backward()
            for leaf in (a, b):
                if leaf.grad is not None:
                    leaf.grad.nan_to_num_()
            optimiser.step()
    a, b = torch.cat(found_x), torch.cat(found_y)
    with torch.no_grad():
        moved = exact(a.clone()) - exact(b.clone())
    return Pairs((a - b).flatten(1), moved)


def _direction(exact: nn.Module, x: Tensor, norm: BoundNorm) -> Tensor:
    """Where the logits move fastest: from the Jacobian (n, classes, features)."""
    leaf = x.clone().requires_grad_()
    logits = exact(leaf + 0)
    rows = [torch.autograd.grad(logits[:, i].sum(), leaf, retain_graph=True)[0] for i in range(logits.shape[1])]
    jacobian = torch.stack(rows, 1).flatten(2).nan_to_num()
    if norm == "l2":
        direction = torch.linalg.svd(jacobian, full_matrices=False)[2][:, 0]
    elif norm == "linf":
        best = jacobian.abs().sum(2).argmax(1)
        direction = jacobian[torch.arange(len(x)), best].sign()
    else:
        best = jacobian.abs().sum(1).argmax(1)
        direction = torch.nn.functional.one_hot(best, jacobian.shape[2]).double()
    return direction.reshape(x.shape)


def ratios(pairs: Pairs, norm: BoundNorm) -> Tensor:
    """||f(x) - f(y)|| / ||x - y|| of the pairs that are far enough apart: (m,)."""
    apart = length(pairs.inputs, norm)
    return (length(pairs.logits, norm) / apart)[apart >= CLOSEST]


def attained(module: nn.Module, x: Tensor, norm: BoundNorm) -> float:
    """The norm of the Jacobian at ``x``, or the largest ratio for a step of `CLOSEST` from there."""
    exact = copy.deepcopy(module).double().eval().requires_grad_(False)
    leaf = x.clone().requires_grad_()
    logits = exact(leaf + 0)
    rows = [torch.autograd.grad(logits[:, i].sum(), leaf, retain_graph=True)[0] for i in range(logits.shape[1])]
    jacobian = torch.stack(rows, 1).flatten(2)
    if norm == "l2":
        steps = torch.linalg.svd(jacobian, full_matrices=False)[2][:, :1]
    elif norm == "linf":
        steps = torch.where(jacobian < 0, -1.0, 1.0).double()
    else:
        steps = torch.eye(jacobian.shape[2], dtype=torch.float64).expand(len(x), -1, -1)
    order = {"l2": 2, "linf": torch.inf, "l1": 1}[norm]
    best = float(torch.linalg.matrix_norm(jacobian, order).max())
    for sign in (CLOSEST, -CLOSEST):
        for step in steps.unbind(1):
            y = x + sign * step.reshape(x.shape)
            moved = length((exact(y) - exact(x.clone())).flatten(1), norm)
            best = max(best, float((moved / length((y - x).flatten(1), norm)).max()))
    return best
