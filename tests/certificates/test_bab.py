"""Branch and bound: when it ends, what counts as an example, and what stays open."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import robcert
from robcert.bounds.linear.program import program
from robcert.bounds.linear.step import Rounding
from robcert.bounds.rounding.entrywise import entrywise_rules
from robcert.certificates import Search, certificates
from robcert.certificates.bab_search import Outcome, decide
from robcert.errors import EvaluationError
from robcert.network import from_module
from robcert.threats.kind import norm_of
from robcert.types import BoundNorm, Threat
from tests.bounds.linear.relaxations import differences, smallest
from tests.certificates.exact import by_milp
from tests.certificates.test_bab_exact import ROW, Question, network


def test_search_goes_on_behind_points_that_are_no_examples() -> None:
    """Many points are below what a proof needs, and only the minimum counts as an example."""
    refused = [goes_on(seed) for seed in range(1000, 1006)]
    assert sum(count > 0 for count in refused) >= 3, refused


def goes_on(seed: int) -> int:
    """Return how many points were refused as examples before the minimum was found."""
    asked = Question(network(seed, units=8), eps=0.6)
    truth = by_milp(asked.model.module, asked.region, ROW)
    refused: list[int] = []

    def example(points: Tensor) -> Tensor:
        counts = asked.value(points) <= truth + 1e-7
        refused.append(int((~counts).sum()))
        return counts

    given = program(asked.model), asked.region, asked.row, truth + 0.2, asked.value
    found = decide(*given, example=example, seconds=300)
    before = sum(refused)
    assert found.status == "broken" and found.point is not None
    assert float(asked.value(found.point.unsqueeze(0))) <= truth + 1e-7
    never = decide(*given, example=lambda points: torch.zeros(len(points)).bool(), seconds=300)
    assert never.status == "open" and never.point is None and never.lower <= truth + 1e-9
    return before


@pytest.mark.parametrize("tilt", [0.0, 1.0])
def test_a_margin_below_the_rounding_is_no_example(tilt: float) -> None:
    """f_0 - f_1 = relu(w u) - relu(w u) + 0.05 + tilt v: the first two cancel, and rounding may be above 0.1."""
    first, last = nn.Linear(2, 4), nn.Linear(4, 2)
    weight = 1e6
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[weight, 0.0], [weight, 0.0], [0.0, 1.0], [0.0, -1.0]]))
        first.bias.zero_()
        last.weight.copy_(torch.tensor([[1.0, -1.0, tilt, -tilt], [0.0, 0.0, 0.0, 0.0]]))
        last.bias.copy_(torch.tensor([0.05, 0.0]))
    model = from_module(nn.Sequential(first, nn.ReLU(), last), (2,), 2, box=(-1.0, 1.0))
    x, y = torch.zeros(1, 2), torch.zeros(1).long()
    assert int(model.module(x).argmax()) == 0
    found = certificates.get("bab")(model, x, y, "linf", Search(eps=(0.2,), largest=False))
    assert float(found.radius) == 0.0 and found.examples is not None
    broken = bool(torch.isfinite(found.examples).all())
    assert broken == (tilt > 0)
    assert not broken or int(model.module(found.examples).argmax()) == 1


def test_time_that_is_up_leaves_a_bound_and_no_claim() -> None:
    asked = Question(network(1001))
    given = program(asked.model), asked.region, asked.row, 0.0, lambda points: torch.ones(len(points)).double()
    assert decide(*given, seconds=0.0).status == "open"


def test_every_image_of_a_small_network_is_decided_and_examples_are_wrong() -> None:
    torch.manual_seed(2)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 4))
    model = from_module(net, (1, 4, 4), 4)
    x = torch.rand(30, 1, 4, 4)
    y = model.module(x).argmax(1)
    eps = 0.03
    found = certificates.get("best")(model, x, y, "linf", Search(eps=(eps,), largest=False))
    assert found.examples is not None
    certified = found.radius > eps
    broken = torch.isfinite(found.examples.flatten(1)).all(1)
    assert bool((certified ^ broken).all()) and bool(certified.any()) and bool(broken.any())
    wrong = model.module(found.examples[broken]).argmax(1) != y[broken]
    assert bool(wrong.all())
    assert float((found.examples[broken] - x[broken]).abs().max()) <= eps * (1 + 1e-5)


def test_what_branch_and_bound_broke_is_not_counted_as_broken_by_an_attack() -> None:
    torch.manual_seed(2)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    data = robcert.load_dataset("digits", n=20)
    with torch.no_grad():
        data = replace(data, y=net(data.x).argmax(1))
    record = robcert.attack(from_module(net, (1, 8, 8), 10), data, Threat("linf", (0.05,)), "pgd:5", certify="best")
    found = record.models[0]
    broken = [image for image in found.images if image.status == "broken"]
    assert broken and all(image.status in ("broken", "certified") for image in found.images)
    assert found.legs[0].entered == 0 and found.legs[0].newly_broken == 0


def test_other_nonlinearities_are_refused() -> None:
    model = from_module(nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)), (4,), 2)
    with pytest.raises(EvaluationError, match="splits ReLUs"):
        certificates.get("bab")(model, torch.rand(2, 4), torch.zeros(2).long(), "linf", None)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("method", ["bab", "best"])
@pytest.mark.parametrize("largest", [False, True])
def test_a_network_without_relu_is_decided_at_its_exact_distance(norm: BoundNorm, method: str, largest: bool) -> None:
    """Neither slopes nor multipliers: there is nothing to ascend."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 4))
    model = from_module(net, (1, 4, 4), 4, box=(-9.0, 9.0))  # the box cuts no ball
    x = torch.rand(12, 1, 4, 4)
    weight, bias = (p.detach().double() for p in net[1].parameters())
    logits = x.double().flatten(1) @ weight.T + bias
    y = logits.argmax(1)
    margins = logits.gather(1, y[:, None]) - logits
    lengths = torch.stack([norm_of(norm).dual(weight[label] - weight) for label in y.tolist()])
    exact = (margins / lengths).masked_fill(nn.functional.one_hot(y, 4).bool(), float("inf")).amin(1)
    eps = float(exact.median()) * 1.001
    found = certificates.get(method)(model, x, y, norm, Search(eps=(eps,), largest=largest))
    assert bool((found.radius < exact).all())
    inside = exact > eps * 1.001
    assert 0 < int(inside.sum()) < 12
    assert bool((found.radius[inside] > eps).all())
    if largest:
        assert bool((found.radius >= 0.98 * exact).all())
    else:
        assert found.examples is not None
        broken = torch.isfinite(found.examples.flatten(1)).all(1)
        assert torch.equal(broken, ~inside)
        assert bool((model.module(found.examples[broken]).argmax(1) != y[broken]).all())


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
def test_a_linear_network_whose_balls_are_cut_by_the_box(norm: BoundNorm) -> None:
    """What is certified no step inside ball and box breaks; in linf and l1 nothing stays open."""
    torch.manual_seed(1)
    model = from_module(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), (1, 4, 4), 3)
    x = torch.rand(12, 1, 4, 4)
    y = model.module(x).argmax(1)
    eps = {"l2": 0.4, "linf": 0.1, "l1": 1.2}[norm]
    found = certificates.get("bab")(model, x, y, norm, Search(eps=(eps,), largest=False))
    assert found.examples is not None
    broken = torch.isfinite(found.examples.flatten(1)).all(1)
    certified = found.radius > eps
    assert not bool((certified & broken).any()) and bool(certified.any()) and bool(broken.any())
    if norm != "l2":
        assert bool((certified | broken).all())
    rows = differences(3)
    least = smallest(model.module, x, norm, eps, rows, 0).view(12, 3, 3)
    margins = least[torch.arange(12), y].masked_fill(nn.functional.one_hot(y, 3).bool(), float("inf"))
    assert bool((margins[certified] > 0).all())


def test_a_relu_that_reaches_no_logit_leaves_nothing_to_ascend() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([self.one(x), self.other(x).relu()], 1)[:, :3]

    torch.manual_seed(0)
    model = from_module(Idle(), (4,), 3)
    x = torch.rand(6, 4)
    y = model.module(x).argmax(1)
    found = certificates.get("bab")(model, x, y, "linf", Search(eps=(0.05,), largest=False))
    assert found.examples is not None
    assert bool(((found.radius > 0.05) ^ torch.isfinite(found.examples).all(1)).all())


@pytest.mark.parametrize("second", [-0.005, 0.005])
def test_classes_behind_one_that_stays_open_count_for_the_real_radius(
    monkeypatch: pytest.MonkeyPatch, second: float
) -> None:
    """The search of the first class ends open with a bound above 0; that of the second without one."""
    net = nn.Linear(2, 3)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[0.0, 0.0], [0.5, 0.0], [0.0, 0.5]]))  # at 0.1 a margin loses 0.05
        net.bias.copy_(torch.tensor([0.0, -0.25 - 0.05 + 0.03, -0.25 - 0.05 - second]))
    model = from_module(net, (2,), 3)
    coarse = Rounding(lambda given, result: torch.tensor(0.05, dtype=torch.float64))
    monkeypatch.setitem(entrywise_rules._entries, "linear", lambda call, step: coarse)  # pyright: ignore[reportPrivateUsage]
    asked: list[int] = []

    def open_above_zero(*given: object, **options: object) -> Outcome:
        asked.append(1)
        return Outcome("open", 0.02 if len(asked) == 1 else -float("inf"), 0.02, None, 1)

    monkeypatch.setattr("robcert.certificates.bab.decide", open_above_zero)
    x, y = torch.full((1, 2), 0.5), torch.zeros(1).long()
    assert int(model.module(x).argmax()) == 0
    found = certificates.get("bab")(model, x, y, "linf", Search(eps=(0.1,), largest=False))
    assert len(asked) == 2 and float(found.radius) == 0.0
    assert (float(found.radius_real) > 0) == (second > 0)
