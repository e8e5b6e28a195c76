"""Near misses are climbed into the ball: as far as a linear network allows, and only where an attack may."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from toys import stage_over, toy

from robcert.attacks import attacks
from robcert.data import load_dataset
from robcert.search import finalisation
from robcert.search.near_miss_pgd import near_miss_pgd
from robcert.search.stage import Stage
from robcert.search.verifier import Verifier
from robcert.threats.kind import norm_of
from robcert.types import Batch, LoadedModel, Threat, ThreatNorm


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("n", [1, 8, 11])
def test_a_linear_network_has_its_largest_margin(norm: ThreatNorm, n: int) -> None:
    """With two classes and no box in the way: the margin at the image plus eps times the dual norm of the gradient."""
    generator = torch.Generator().manual_seed(n)
    layer = nn.Linear(12, 2)
    layer.weight.data = torch.randn(2, 12, generator=generator)
    x = torch.rand(n, 12, generator=generator)
    y = layer(x).argmax(dim=1)
    difference = layer.weight[1 - y] - layer.weight[y]
    clean = (layer(x).gather(1, (1 - y)[:, None]) - layer(x).gather(1, y[:, None]))[:, 0]
    threat = Threat(norm, (0.7,), (-9.0, 9.0))
    most = clean + 0.7 * norm_of(norm).dual(difference)
    near = x + 1.03 * 0.7 * torch.nn.functional.normalize(torch.randn(n, 12, generator=generator), dim=1)
    model = toy(layer, (12,), 2, threat.box, rounding=float("inf"))  # no margin is enough, so it goes to the end
    climbed, steps = near_miss_pgd(Verifier(model, threat, 16), near, x, y, 300)
    assert steps == 300
    assert climbed.x.shape == x.shape
    logits = layer(climbed.x)
    margin = (logits.gather(1, (1 - y)[:, None]) - logits.gather(1, y[:, None]))[:, 0]
    assert bool((norm_of(norm).norm(climbed.x - x) <= 0.7 * (1 + 1e-5)).all())
    assert torch.allclose(margin, most, atol=2e-3)


@pytest.fixture(scope="module")
def images() -> Batch:
    data = load_dataset("digits", n=60)
    return Batch(data.x, data.y, data.index)


def run(model: LoadedModel, images: Batch, name: str, **options: Any) -> tuple[set[int], Stage]:
    one = stage_over(model, attacks.get(name)(**options), name, images, Threat("l2", (0.4,)), "decide", slots=64)
    one.run()
    return {k for k, distance in enumerate(one.bracket.distance.tolist()) if distance <= 0.4}, one


def test_a_short_search_breaks_more_and_pays_for_it(
    plain: LoadedModel, images: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"iterations": 10, "search_steps": 3}
    with_it, leg = run(plain, images, "cw", **options)
    monkeypatch.setattr(finalisation, "NEAR", 1.0)
    without, other = run(plain, images, "cw", **options)
    assert without < with_it
    assert leg.spent.backwards > other.spent.backwards
    assert leg.broke == with_it, "an image that was climbed in was broken by the leg"


def test_fab_original_gets_none(plain: LoadedModel, images: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """With near misses that `fab` pays for."""
    monkeypatch.setattr(finalisation, "NEAR", 1.3)
    with_it, leg = run(plain, images, "fab", iterations=10)
    monkeypatch.setattr(finalisation, "near_miss_pgd", lambda *_: pytest.fail("it drew a near miss in"))
    without, other = run(plain, images, "fab-original", iterations=10)
    assert without
    assert without <= with_it
    assert leg.spent.backwards > other.spent.backwards


def test_an_attack_without_gradients_gets_none(
    plain: LoadedModel, images: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finalisation, "near_miss_pgd", lambda *_: pytest.fail("it took a gradient"))
    monkeypatch.setattr(finalisation, "NEAR", 1e9)
    broken, leg = run(plain, images, "square", iterations=30)
    assert broken
    assert leg.spent.backwards == 0
