"""Pairs of images between which a function moves fast, and images of small values: what a claim is held against."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from robcert.types import BOUND_NORMS

Function = Callable[[Tensor], Tensor]

CLOSEST = 1e-3
"""Pairs are at least this far apart: closer, the rounding of float64 would count."""
ORDER = {"l1": 1, "l2": 2, "linf": torch.inf}
_STEPS = (2e-3, 2e-2, 0.3, 3.0)
_KEPT = 6
"""So many of the best pairs of each norm are improved."""
_ROWS = 48
"""Rows of a Jacobian that are looked at."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of images, how far apart they and the answers are.

    Attributes:
        a: (m, *shape), and ``b`` likewise.
        moved: (m, classes).
        apart: norm -> (m,).
        size: the largest entry of images and answers, at least 1: (m,).
    """

    a: Tensor
    b: Tensor
    moved: Tensor
    apart: dict[str, Tensor]
    size: Tensor

    def slope(self, norm: str) -> Tensor:
        """||f(a) - f(b)|| / ||a - b||, (m,); 0 where it is not a number or the images are too near."""
        found = self.moved.norm(ORDER[norm], 1) / self.apart[norm]
        return torch.where(torch.isfinite(found) & (self.apart[norm] >= CLOSEST), found, 0.0)


@torch.no_grad()
def measured(function: Function, a: Tensor, b: Tensor) -> Pairs:
    """What a function does to pairs of images."""
    y, z = function(torch.cat([a, b])).split([len(a), len(b)])
    difference = (a - b).flatten(1)
    apart = {norm: difference.norm(ORDER[norm], 1).clamp_min(1e-300) for norm in BOUND_NORMS}
    sizes = [one.flatten(1).abs().nan_to_num().amax(1) for one in (y, z, a, b) if one.numel()]
    return Pairs(a, b, y - z, apart, torch.stack(sizes).amax(0).clamp_min(1.0))


def steep(function: Function, starts: Tensor, seed: int) -> Iterator[Pairs]:
    """Pairs with a large slope: along the best direction of the Jacobian, halved towards kinks and jumps, by ascent.

    Half of a segment has at least the slope of the whole, so halving ends at the steepest place, a jump included.
    """
    if not starts[0].numel():
        return
    found = measured(function, *_candidates(function, starts, seed))
    yield found
    chosen = torch.cat([_best(found, norm) for norm in BOUND_NORMS])
    norms = [norm for norm in BOUND_NORMS for _ in range(len(chosen) // len(BOUND_NORMS))]
    a, b = found.a[chosen], found.b[chosen]
    for _ in range(14):
        middle = (a + b) / 2
        halves = measured(function, torch.cat([a, middle]), torch.cat([middle, b]))
        left, right = _own_slope(halves, norms * 2).split(len(a))
        shape = (-1, *[1] * (a.dim() - 1))
        nearer, apart = (left >= right).view(shape), (left.maximum(right) > 0).view(shape)
        a, b = torch.where(apart & ~nearer, middle, a), torch.where(apart & nearer, middle, b)
    yield measured(function, a, b)
    yield from _ascent(function, a, b, norms)


def _own_slope(found: Pairs, norms: list[str]) -> Tensor:
    """Of every pair in its own norm."""
    every = torch.stack([found.slope(norm) for norm in BOUND_NORMS])
    return every[torch.tensor([BOUND_NORMS.index(norm) for norm in norms]), torch.arange(len(norms))]


def _candidates(function: Function, starts: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first: list[Tensor] = []
    second: list[Tensor] = []
    for k, direction in enumerate(_directions(function, starts)):
        for step in _STEPS:
            first.append(starts)
            second.append(starts + (-1) ** k * step * direction)
    order = torch.randperm(len(starts), generator=generator)
    noise = torch.randn(starts.shape, generator=generator, dtype=torch.float64).sign()
    first += [starts, starts]
    second += [starts[order], starts + noise * torch.rand(starts.shape, generator=generator, dtype=torch.float64)]
    return torch.cat(first), torch.cat(second)


def _directions(function: Function, x: Tensor) -> list[Tensor]:
    """For every image and norm the unit step by which its answer moves most, to first order."""
    features = x[0].numel()
    generator = torch.Generator().manual_seed(features)
    leaf = x.clone().requires_grad_()
    try:
        answer = function(leaf * 1.0)
    except RuntimeError:  # no gradient of this operator
        return [torch.randn(x.shape, generator=generator, dtype=torch.float64).sign()]
    if not answer.requires_grad or not answer.shape[1]:
        return [torch.randn(x.shape, generator=generator, dtype=torch.float64).sign()]
    rows: list[Tensor] = []
    for k in torch.randperm(answer.shape[1], generator=generator)[:_ROWS].tolist():
        row = _gradient(answer[:, k].sum(), leaf, keep=True)
        rows.append(torch.zeros_like(x) if row is None else row)
    jacobian = torch.stack(rows, 1).flatten(2).nan_to_num().clamp(-1e12, 1e12)
    steepest = jacobian.abs().sum(2).argmax(1)
    column = jacobian.abs().sum(1).argmax(1)
    return [
        torch.linalg.svd(jacobian, full_matrices=False)[2][:, 0].reshape(x.shape),
        torch.where(jacobian[torch.arange(len(x)), steepest] < 0, -1.0, 1.0).double().reshape(x.shape),
        torch.nn.functional.one_hot(column, features).double().reshape(x.shape),
    ]


def _gradient(value: Tensor, leaf: Tensor, *, keep: bool = False) -> Tensor | None:
    """None where torch has none: some in-place operators."""
    try:
        return torch.autograd.grad(value, leaf, retain_graph=keep, allow_unused=True)[0]
    except RuntimeError:
        return None


def _best(found: Pairs, norm: str) -> Tensor:
    """Indices of the steepest pairs, and of some that are not steep yet."""
    order = found.slope(norm).argsort(descending=True)
    return torch.cat([order[:_KEPT], order[:: max(1, len(order) // _KEPT)][:_KEPT]])


def _ascent(function: Function, a: Tensor, b: Tensor, norms: list[str], steps: int = 6) -> Iterator[Pairs]:
    """Gradient ascent on the logarithm of the slope, over both images."""
    a, b = a.clone().requires_grad_(), b.clone().requires_grad_()
    optimiser = torch.optim.Adam([a, b], lr=0.05)
    every = [slice(norms.index(norm), norms.index(norm) + norms.count(norm)) for norm in BOUND_NORMS]
    for _ in range(steps):
        try:
            y, z = function(torch.cat([a * 1.0, b])).split([len(a), len(b)])
        except RuntimeError:
            return
        if not y.requires_grad:
            return
        difference = (a - b).flatten(1)
        loss = torch.zeros((), dtype=torch.float64)
        for part, norm in zip(every, BOUND_NORMS, strict=True):
            moved, apart = (y - z)[part].norm(ORDER[norm], 1), difference[part].norm(ORDER[norm], 1)
            loss = loss - (moved.clamp_min(1e-12).log() - apart.clamp_min(CLOSEST).log()).nan_to_num().sum()
        for leaf in (a, b):
            leaf.grad = _gradient(loss, leaf, keep=True)
            if leaf.grad is not None:
                leaf.grad.nan_to_num_()
        optimiser.step()
        near = (a - b).detach().flatten(1).abs().amax(1) < CLOSEST
        with torch.no_grad():
            b[near] += CLOSEST * 2
        yield measured(function, a.detach().clone(), b.detach().clone())


def rows(classes: int, generator: torch.Generator, most: int = 12) -> Tensor:
    """Differences of two logits (which a final log_softmax leaves as they are), or the only logit: (rows, classes)."""
    if classes < 2:
        return torch.ones(1, classes, dtype=torch.float64)
    order = torch.randperm(classes, generator=generator)
    eye = torch.eye(classes, dtype=torch.float64)
    return (eye[order] - eye[order.roll(1)])[:most]


def smallest(
    function: Function, low: Tensor, high: Tensor, rows: Tensor, generator: torch.Generator, tries: int = 60
) -> tuple[Tensor, float]:
    """The smallest rows . f(x) that is found between low and high (n, *shape): (n, rows), and the largest |f|."""
    n, count = len(low), len(rows)
    where = torch.rand(tries, *low.shape, generator=generator, dtype=torch.float64)
    where[::3] = where[::3].round()  # corners
    where[1] = 0.5
    x = (low + (high - low) * where).flatten(0, 1)
    with torch.no_grad():
        answers = function(x.clone()).unflatten(0, (tries, n))
    values = torch.einsum("tnk,rk->tnr", answers, rows).nan_to_num(torch.inf, torch.inf, -torch.inf)
    size = float(answers.abs().nan_to_num(0.0, 0.0, 0.0).max()) if answers.numel() else 0.0
    best, at = values.min(0)
    point = x.unflatten(0, (tries, n))[at, torch.arange(n)[:, None]]  # (n, rows, *shape)
    bottom, top = (side.unsqueeze(1).expand_as(point).flatten(0, 1) for side in (low, high))
    point = point.flatten(0, 1)
    if not point.numel():
        return best, size
    for part in (0.5, 0.2, 0.1, 0.03):
        leaf = point.clone().requires_grad_()
        try:
            value = (function(leaf * 1.0) * rows.repeat(n, 1)).sum(1)
        except RuntimeError:
            break
        best = best.minimum(value.detach().view(n, count).nan_to_num(torch.inf))
        if not value.requires_grad:
            break
        way = _gradient(value.sum(), leaf)
        if way is None:
            break
        point = torch.minimum(torch.maximum(point - part * (top - bottom) * way.nan_to_num().sign(), bottom), top)
    return best, size
