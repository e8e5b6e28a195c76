"""A network's linear bounds against everything that samples and gradient steps can find, in float64."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from robcert.bounds.linear.backward import lower_bound
from robcert.bounds.linear.bounds import Mode, relax
from robcert.bounds.linear.coefficients import Rows
from robcert.bounds.linear.inputs import region
from robcert.bounds.linear.program import Program, program
from robcert.errors import EvaluationError
from robcert.math.norms import l2_unit
from robcert.network import from_module
from robcert.threats.kind import norm_of
from robcert.types import BoundNorm, LoadedModel
from tests.bounds.lipschitz.random_networks import HEADS, STEPS, random_network

MODES: tuple[Mode, ...] = ("ibp", "crown-ibp", "crown")
BALLS: tuple[tuple[BoundNorm, float], ...] = (("linf", 0.05), ("l2", 0.3), ("l1", 0.8))
SHAPE = (2, 5, 5)


def random_program(seed: int) -> tuple[LoadedModel, Program, str] | None:
    """A random network of everything that has a Lipschitz rule; None without relaxation or classes."""
    r = random.Random(seed)
    steps = [r.choice([name for name in sorted(STEPS) if name != "normalisation"]) for _ in range(r.randint(2, 8))]
    head = r.choice(HEADS)
    net = random_network(steps, head, seed, SHAPE)
    with torch.no_grad():
        classes = net(torch.rand(2, *SHAPE)).shape[1]
    if classes < 2:
        return None
    model = from_module(net, SHAPE, classes)
    try:
        return model, program(model), f"{steps} {head} {seed}"
    except EvaluationError:
        return None


def bounds(found: Program, x: Tensor, norm: BoundNorm, eps: float, rows: Tensor, mode: Mode) -> Tensor:
    """Lower bounds of rows . logits, (n, rows)."""
    around = region(x, torch.full((len(x),), eps, dtype=torch.float64), norm, (0.0, 1.0))
    with torch.no_grad():
        relaxed = relax(found, around, mode)
        spec = Rows(rows.expand(len(x), *rows.shape).contiguous())
        return lower_bound(relaxed, found.logits, spec, to_inputs=mode != "ibp")


def smallest(
    module: nn.Module, x: Tensor, norm: BoundNorm, eps: float, rows: Tensor, seed: int, tries: int = 40
) -> Tensor:
    """The smallest values that are found inside ball and box: (n, rows)."""
    exact = copy.deepcopy(module).double()
    generator = torch.Generator().manual_seed(seed)
    centre = x.double().repeat_interleave(tries, 0)
    budget = torch.full((len(centre),), eps * (1 - 1e-9), dtype=torch.float64)
    size = torch.rand(len(centre), *[1] * (x.dim() - 1), generator=generator, dtype=torch.float64)
    delta = torch.randn(centre.shape, generator=generator, dtype=torch.float64) * size * 0.3
    delta = norm_of(norm).project_in_box(delta, centre, budget, (0.0, 1.0))
    which = torch.arange(len(centre)) % len(rows)
    for _ in range(6):
        leaf = (centre + delta).requires_grad_()
        (slope,) = torch.autograd.grad((exact(leaf + 0) * rows[which]).sum(), leaf, allow_unused=True)
        if slope is None:
            break
        slope = slope.nan_to_num()
        step = slope.sign() if norm == "linf" else l2_unit(slope)
        delta = norm_of(norm).project_in_box(delta - 0.4 * eps * step, centre, budget, (0.0, 1.0))
    assert bool((norm_of(norm).norm(delta) <= eps).all())
    with torch.no_grad():
        out = exact(centre + delta).unflatten(0, (len(x), tries))
    return torch.einsum("nsk,rk->nsr", out, rows).amin(1)


def differences(classes: int) -> Tensor:
    """e_i - e_j for all pairs: log_softmax at the end changes none of them."""
    eye = torch.eye(classes, dtype=torch.float64)
    return (eye[:, None] - eye[None]).flatten(0, 1)


def programs(seeds: range) -> Iterator[tuple[int, LoadedModel, Program, str]]:
    """Those random networks that have a relaxation."""
    for seed in seeds:
        found = random_program(seed)
        if found is not None:
            yield seed, *found
