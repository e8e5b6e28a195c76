"""Each warning fires on a network built to show it, and none on an ordinary one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from toys import toy

import robcert
from robcert.accel.precision import SearchPrecision
from robcert.data import load_dataset
from robcert.network import load_model
from robcert.runs.record import LegRecord, ModelRecord
from robcert.runs.weaker_wins import weaker_wins
from robcert.search.plateau import judge
from robcert.types import Dataset, Goal, LoadedModel, Threat, ThreatNorm

FROM_DATA = ("random", "saturated")


def images(n: int = 24, entries: int = 16, seed: int = 0) -> Tensor:
    return torch.rand(n, entries, generator=torch.Generator().manual_seed(seed))


def attacked(
    net: nn.Module, plan: str, eps: float, norm: ThreatNorm = "linf", x: Tensor | None = None, y: Tensor | None = None,
    **options: object,
) -> ModelRecord:  # fmt: skip
    """The record of one run on images that the network gets right."""
    x = images() if x is None else x
    if y is None:
        with torch.no_grad():
            y = net.eval()(x).argmax(dim=1)
    data = Dataset("toy", "test", x, y, torch.arange(len(x)) + 100, ("a", "b", "c"))
    with torch.no_grad():
        classes = net(x).shape[1]
    model: LoadedModel = toy(net, tuple(x.shape[1:]), classes)
    return robcert.attack(model, data, Threat(norm, (eps,)), plan, certify="none", **options).models[0]  # type: ignore[arg-type]


def named(record: ModelRecord) -> dict[str, list[int]]:
    return {warning.name: warning.images for warning in record.warnings}


class Linear(nn.Module):
    """Two classes, parted by whether the mean of the image is above a half."""

    def __init__(self, scale: float = 10.0) -> None:
        super().__init__()
        self.scale = scale

    def gap(self, x: Tensor) -> Tensor:
        return self.scale * (x.flatten(1).mean(dim=1, keepdim=True) - 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([-self.gap(x), self.gap(x)], dim=1)


class Quantised(Linear):
    """A defence that rounds its input to sixteen levels: right, easily fooled, and flat."""

    def gap(self, x: Tensor) -> Tensor:
        levels = (x * 16).round() / 16
        return super().gap(levels) + 0 * x.flatten(1).sum(dim=1, keepdim=True)


class Shattered(Linear):
    """A ripple that changes no answer (the gap leaves at least 1 times 2) but every gradient."""

    def gap(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        gap = 40 * (flat.mean(dim=1, keepdim=True) - 0.5)
        return gap + gap.tanh() * 0.9 * torch.sin(4e4 * flat).mean(dim=1, keepdim=True)


class Shifting(Linear):
    """Noise on its input at every call."""

    def gap(self, x: Tensor) -> Tensor:
        return super().gap(x + 0.1 * torch.randn_like(x))


class Softmax(Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).softmax(dim=1)


class Deaf(nn.Module):
    """One answer to everything, with a gradient that leads nowhere."""

    def forward(self, x: Tensor) -> Tensor:
        wave = 0.1 * torch.sin(x.flatten(1).sum(dim=1, keepdim=True))
        return torch.cat([1 + wave, wave * 0.5], dim=1)


class Decoy(Linear):
    """The gradient is right at the images of this test, and backwards anywhere else in the ball."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.x = x

    def gap(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        clean = torch.cdist(flat, self.x.flatten(1)).amin(dim=1, keepdim=True) < 1e-6
        plain = super().gap(x)
        backwards = 2 * plain.detach() - plain  # the same value, minus the gradient
        return torch.where(clean, plain, backwards)


def test_an_ordinary_network_shows_none() -> None:
    for norm, eps in (("linf", 0.02), ("l2", 0.1), ("l1", 0.3)):
        record = attacked(Linear(), "pgd:20 + noise:20 + fgsm:1", eps, norm)  # type: ignore[arg-type]
        assert named(record) == {}
        assert record.verdicts.open


def test_a_quantised_network() -> None:
    """No gradient; noise wins."""
    near = (0.5 + 0.04 * (images() - 0.5) + torch.where(torch.arange(24) % 2 == 0, 0.03, -0.03)[:, None]).clamp(0, 1)
    record = attacked(Quantised(), "pgd:20 + square:200", 0.15, x=near)
    found = named(record)
    assert len(found["gradient-free-wins"]) == record.legs[1].newly_broken
    assert len(found["gradient-free-wins"]) > 12
    still = attacked(Quantised(), "pgd:20", 0.001, x=near)
    assert len(named(still)["zero-gradients"]) == still.verdicts.open


def test_shattered_gradients() -> None:
    record = attacked(Shattered(), "pgd:20 + square:500", 0.12)
    assert len(named(record)["gradient-free-wins"]) >= 3
    assert set(named(record)["gradient-free-wins"]) <= {image.index for image in record.images}


def test_a_random_network_and_the_mean_over_draws() -> None:
    x = images()
    with torch.no_grad():
        y = Linear()(x).argmax(dim=1)
    once = attacked(Shifting(), "pgd:5", 0.001, x=x, y=y)
    assert len(named(once)["non-deterministic"]) == len(x)
    many = attacked(Shifting(), "pgd:5", 0.001, x=x, y=y, eot=7)
    attacking, ranking = many.legs[0], once.legs[0]
    assert attacking.backwards % 7 == 0
    assert attacking.backwards > ranking.backwards


def test_probabilities() -> None:
    assert len(named(attacked(Softmax(), "pgd:5", 0.001))["probabilities"]) == 24
    assert "probabilities" not in named(attacked(Linear(), "pgd:5", 0.001))


def test_tiny_and_saturated_logits() -> None:
    """Both are broken all the same: the objectives have a temperature. But the user is told."""
    for scale, name in ((1e-5, "tiny-logits"), (1e6, "saturated-logits")):
        record = attacked(Linear(scale), "pgd:20", 0.4)
        assert len(named(record)[name]) == 24
        assert record.verdicts.broken == 24
    assert len(named(attacked(Linear(), "pgd:5", 0.001))) == 0


def test_an_unbounded_attack_that_fails() -> None:
    for norm, eps in (("linf", 0.05), ("l2", 0.1), ("l1", 0.3)):
        record = attacked(Deaf(), "pgd:5", eps, norm)  # type: ignore[arg-type]
        found = named(record)["unbounded-attack-fails"]
        assert len(found) == 16, "a sample of the open images"
        assert len(set(found)) == 16
        legs = record.legs
        assert record.checks.backwards >= 16, "every one of them was attacked"
        assert record.spent.backwards == sum(leg.backwards for leg in legs) + record.checks.backwards


def test_one_step_beats_many() -> None:
    x = images()
    record = attacked(Decoy(x), "pgd:20 + fgsm:1", 0.1, x=x, options={"pgd": {"objective": "margin"}})
    found = named(record)["one-step-wins"]
    assert len(found) > 12
    assert record.legs[1].newly_broken == len(found)


@pytest.mark.parametrize("plan", ["noise:20 + square:100", "fgsm:1 + noise:20"])
def test_without_an_iterative_attack_there_is_nothing_to_beat(plan: str) -> None:
    assert named(attacked(Linear(), plan, 0.05)) == {}


def test_with_several_budgets_the_share_is_of_what_was_left_open() -> None:
    """Six of 20 open images are more than chance; with --goal minimize all 500 enter the leg."""
    shared = {"iterations": 50, "restarts": 1, "interval": (0.0, 1.0), "forwards": 9, "seconds": 0.0, "entered": 500}
    first = LegRecord(attack="pgd", attacked_correct=[400, 30], newly_broken=[100, 470], backwards=9, **shared)  # type: ignore[arg-type]
    then = LegRecord(attack="square", attacked_correct=[400, 24], newly_broken=[0, 6], backwards=0, **shared)  # type: ignore[arg-type]
    broke = list(range(6))
    (found,) = weaker_wins([first, then], [{}, {"broke": broke}], 10, lambda k, positions: positions)
    assert (found.name, found.positions) == ("gradient-free-wins", broke)
    assert judge(500, 6)[0] != "falling"


@pytest.mark.parametrize("goal", ["decide", "minimize"])
def test_a_random_answer_to_the_clean_image_is_no_example(goal: Goal) -> None:
    """Images near the boundary, which the mean of the noise gets right and a draw often does not."""
    x = (images() - 0.5) * 1e-3 + 0.5
    with torch.no_grad():
        y = Linear()(x).argmax(dim=1)
    record = attacked(Shifting(), "cw:20 + pgd:20", 1e-6, "l2", x=x, y=y, goal=goal)
    assert record.natural_correct > 0
    assert all(image.distance is None or image.distance > 0 for image in record.images if image.status != "wrong")


@pytest.mark.parametrize("plan", ["pgd:10", "apgd-t:10", "square:50"])
@pytest.mark.parametrize("search_precision", ["auto", "float32", "bfloat16"])
def test_every_draw_is_counted(plan: str, search_precision: SearchPrecision) -> None:
    """The mean of five answers of a network that is not random is its answer, at five times the price."""
    model, data = load_model("digits-plain"), load_dataset("digits", n=24)
    once, five = (
        robcert.attack(
            model, data, Threat("linf", (1e-4,)), plan, certify="none", eot=draws, search_precision=search_precision
        ).models[0].legs[0]
        for draws in (1, 5)
    )  # fmt: skip
    assert once.forwards > 0
    assert (five.forwards, five.backwards) == (5 * once.forwards, 5 * once.backwards)
