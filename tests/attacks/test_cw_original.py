"""cw-original is the published loop: its minimum on a linear model, and its blindness to small logits."""

from __future__ import annotations

import torch
from toys import exact_distance, random_linear, run_leg, toy

from robcert.types import Threat


def textbook(net: torch.nn.Linear, x: torch.Tensor, y: torch.Tensor, iterations: int, steps: int) -> torch.Tensor:
    """The loop written down once more, with torch's own Adam, one image at a time: the closest distance (n,)."""
    best = torch.full((len(x),), float("inf"), dtype=torch.float64)
    for i in range(len(x)):
        c, lower, upper = 0.001, 0.0, float("inf")
        for _ in range(steps):
            w = torch.atanh((2 * x[i] - 1) * 0.999999).requires_grad_()
            adam = torch.optim.Adam([w], lr=0.01, eps=1e-12)
            hit = False
            for _ in range(iterations):
                point = (torch.tanh(w) + 1) / 2
                logits = net(point)
                others = logits.masked_fill(torch.nn.functional.one_hot(y[i], len(logits)).bool(), -torch.inf)
                margin = logits[y[i]] - others.max()
                loss = (point - x[i]).square().sum() + c * margin.clamp_min(0)
                if float(margin.detach()) <= 0:
                    hit = True
                    distance = float((point.detach().double() - x[i].double()).norm())
                    best[i] = min(float(best[i]), distance)
                adam.zero_grad()
                loss.backward()
                adam.step()
            lower, upper = (lower, min(upper, c)) if hit else (max(lower, c), upper)
            c = 0.5 * (lower + upper) if upper < float("inf") else 10 * c
    return best


def test_it_is_the_published_loop() -> None:
    net, x, y = random_linear(16, 3, seed=5, n=6)
    x = 0.25 + 0.5 * x
    model = toy(net, (16,), 3)
    y = model.module(x).argmax(dim=1)
    threat = Threat("l2", (0.2,))
    found, _ = run_leg(model, x, y, threat, "cw-original", "minimize", 100, search_steps=6, abort_early=False)
    expected = textbook(net, x, y, 100, 6)
    both = expected.isfinite()
    assert int(both.sum()) >= 3
    assert torch.equal(found.distance.isfinite(), both)
    assert torch.allclose(found.distance[both], expected[both], rtol=1e-3)
    assert bool((found.distance >= exact_distance(net, x, y, "l2") * (1 - model.rounding)).all())


def test_logits_that_are_small_stop_it_and_not_cw() -> None:
    """The first c is the same for every network: a thousandth of the logits takes more search steps than it has."""
    net, x, y = random_linear(64, 3, seed=7, n=12)
    with torch.no_grad():
        for weight in net.parameters():
            weight *= 1e-6
    model = toy(net, (64,), 3)
    threat = Threat("l2", (3.0,))
    original, _ = run_leg(model, x, y, threat, "cw-original", "decide", 100)
    ours, _ = run_leg(model, x, y, threat, "cw", "decide", 100)
    assert int((original.distance <= 3.0).sum()) < int((ours.distance <= 3.0).sum())
