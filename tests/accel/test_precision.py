"""A search in bfloat16 finds the same, and what it finds is what the float32 network says."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import oracle_over, run_leg

from robcert.accel import precision
from robcert.accel.benchmark import benchmark
from robcert.accel.precision import Lowered, search_network
from robcert.accel.stepper import Forward, Stepper
from robcert.attacks.protocol import Problem
from robcert.criteria.misclassified import margin
from robcert.data import load_dataset
from robcert.errors import UsageError
from robcert.network import load_model
from robcert.search.oracle import ModelOracle
from robcert.types import Goal, Threat, ThreatNorm


def small(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 3))
    return net.eval().requires_grad_(False)


def problem(x: Tensor, y: Tensor) -> Problem:
    zeros = torch.zeros_like(y)
    return Problem(
        x=x.clone(),
        y=y,
        index=zeros,
        restart=zeros,
        best=torch.full((len(y),), float("inf")),
        target_classes=zeros[:, None],
        threat=Threat("l2", (10.0,)),
        goal="minimize",
        seed=0,
    )


def test_the_first_layer_sees_a_perturbation_that_bfloat16_rounds_away() -> None:
    net, x = small(), torch.full((1, 1, 8, 8), 0.75)
    moved = x + 2.0**-12
    assert torch.equal(x.bfloat16(), moved.bfloat16())
    low = Lowered(net, x)
    assert not low.cast
    assert next(low.network[4].parameters()).dtype == torch.bfloat16  # type: ignore[index]
    big = 2.0**8  # in units in which the change of the first layer is one that bfloat16 can hold
    net[0].weight.mul_(big)  # type: ignore[union-attr]
    assert not torch.equal(Lowered(net, x).network[0](x), Lowered(net, x).network[0](moved))  # type: ignore[index]


def test_the_copy_leaves_the_network_as_it_was() -> None:
    net, x = small(), torch.rand(4, 1, 8, 8)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    answers = net(x)
    low = Lowered(net, x)(x)
    assert low.dtype == torch.float32
    assert torch.allclose(low, answers, rtol=0.05, atol=0.05 * float(answers.abs().max()))
    assert torch.equal(net(x), answers)
    for key, value in net.state_dict().items():
        assert value.dtype == before[key].dtype
        assert torch.equal(value, before[key])


def test_without_modules_of_layers_the_input_is_cast() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(16, 3))

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) @ self.weight

    low = Lowered(Bare(), torch.rand(1, 1, 4, 4))
    assert low.cast
    assert low(torch.rand(2, 1, 4, 4)).shape == (2, 3)


def test_each_slot_is_answered_by_the_network_it_asks_for() -> None:
    net, x = small(), torch.rand(12, 1, 8, 8)
    y = net(x).argmax(1)

    class Other(nn.Module):
        margin_error = 0.25

        def forward(self, x: Tensor) -> Tensor:
            return 2 * net(x) + 1

    oracle = oracle_over(net, problem(x, y), low=Other())
    oracle.forward.choose(torch.tensor([i % 3 == 0 for i in range(12)]))
    found = oracle.value_and_grad(margin, x)
    expected = torch.where(oracle.forward.low[:, None], 2 * net(x) + 1, net(x))
    assert torch.allclose(found.logits, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(found.margin_error, torch.where(oracle.forward.low, 0.25, 0.0)), (
        "only the other network may be off"
    )
    plain = oracle_over(net, problem(x, y)).value_and_grad(margin, x)
    factor = torch.where(oracle.forward.low, 2.0, 1.0)[:, None, None, None]
    assert torch.allclose(found.gradient, factor * plain.gradient, rtol=1e-4, atol=1e-6)


def test_a_point_that_only_fools_the_search_network_is_not_noted() -> None:
    net, x = small(), torch.rand(8, 1, 8, 8)
    y = net(x).argmax(1)

    class Liar(nn.Module):
        margin_error = 0.0

        def forward(self, x: Tensor) -> Tensor:
            return -net(x)

    oracle = oracle_over(net, problem(x, y), low=Liar())
    oracle.forward.choose(torch.ones(8, dtype=torch.bool))
    near = x + 1e-4 * torch.randn_like(x)
    assert bool((margin(oracle.logits(near), y) > 0).all()), "it lies about every image"
    assert bool(oracle.problem.best.isinf().all())
    assert oracle.confirmed == 8, "and every lie was looked into"


def test_how_far_the_margins_are_off() -> None:
    net, x = small(), torch.rand(400, 1, 8, 8)
    low = Lowered(net, x)
    with torch.no_grad():
        y = net(x).argmax(1)
        off = (margin(low(x), y) - margin(net(x), y)).abs()
    assert float((off <= low.margin_error * (1 + 1e-6)).double().mean()) == pytest.approx(0.9, abs=0.01)
    assert 0 < low.margin_error < float(off.max())


ATTACKS = [*((name, norm) for name in ("pgd", "cw", "apgd") for norm in ("l2", "linf")), ("ddn", "l2")]


@pytest.mark.parametrize(("name", "norm"), ATTACKS)
def test_the_same_verdicts_on_real_images(name: str, norm: ThreatNorm) -> None:
    _same_verdicts("digits-plain", name, norm, n=60, iterations=50, least=0.98)


@pytest.mark.slow
@pytest.mark.parametrize("iterations", [50, 100])
@pytest.mark.parametrize("model", ["digits-plain", "digits-at"])
@pytest.mark.parametrize(("name", "norm"), ATTACKS)
def test_the_same_verdicts_on_500_images(name: str, norm: ThreatNorm, model: str, iterations: int) -> None:
    _same_verdicts(model, name, norm, n=500, iterations=iterations, least=0.99)


def _same_verdicts(name: str, attack: str, norm: ThreatNorm, n: int, iterations: int, least: float) -> None:
    model, data = load_model(name), load_dataset("digits", n=n)
    with torch.no_grad():
        y = model.module(data.x).argmax(1)
    eps = 0.5 if norm == "l2" else 0.08
    threat, low = Threat(norm, (eps,)), Lowered(model.module, data.x)
    verdicts: list[Tensor] = []
    for search in (None, low):
        bracket, _ = run_leg(model, data.x, y, threat, attack, iterations=iterations, search=search)
        for k, example in bracket.found().items():
            assert int(model.module(example.point[None]).argmax()) != int(y[k]), "float32 confirms every verdict"
        verdicts.append(bracket.distance <= eps)
    assert 0 < int(verdicts[0].sum()) < n, "the comparison means something"
    assert float((verdicts[0] == verdicts[1]).double().mean()) >= least


def test_what_a_minimisation_reaches() -> None:
    model, data = load_model("digits-plain"), load_dataset("digits", n=40)
    with torch.no_grad():
        y = model.module(data.x).argmax(1)
    threat, low = Threat("l2", (0.5,)), Lowered(model.module, data.x)
    wide, narrow = (
        run_leg(model, data.x, y, threat, "cw", "minimize", iterations=100, search=search)[0].distance
        for search in (None, low)
    )
    assert float((narrow / wide).median()) <= 1.005


@pytest.mark.parametrize(
    ("wide", "narrow", "lowered"), [(3e-3, 1e-3, False), (9e-3, 8e-3, False), (9e-3, 5e-3, True), (9e-3, 1.0, False)]
)
def test_auto_asks_the_clock(wide: float, narrow: float, lowered: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "benchmark", lambda networks, x, seconds: [wide, narrow][: len(networks)])
    chosen = search_network(small(), torch.rand(8, 1, 8, 8), "auto")
    assert (chosen is not None) == lowered, "clearly faster, and not a step that is mostly overhead"


@pytest.mark.parametrize(("narrow", "asked"), [(5e-3, [0.1]), (11e-3, [0.1]), (7e-3, [0.1, 1.0]), (9e-3, [0.1, 1.0])])
def test_only_a_close_race_is_timed_for_long(
    narrow: float, asked: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []

    def clock(networks: list[nn.Module], x: Tensor, seconds: float) -> list[float]:
        if len(networks) == 2:
            seen.append(seconds)
        return [10e-3, narrow][: len(networks)]

    monkeypatch.setattr(precision, "benchmark", clock)
    search_network(small(), torch.rand(8, 1, 8, 8), "auto")
    assert seen == pytest.approx(asked)


def test_the_clock_runs_every_network() -> None:
    first, second = benchmark([small(), small(1)], torch.rand(8, 1, 8, 8), 0.0)
    assert 0 < first < float("inf")
    assert 0 < second < float("inf")


def test_a_network_that_cannot_is_named() -> None:
    class Picky(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 3)
            self.other = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.other(self.linear(x).float())

    x = torch.rand(8, 4)
    assert search_network(Picky(), x, "auto") is None
    with pytest.raises(UsageError, match="bfloat16"):
        search_network(Picky(), x, "bfloat16")
    with pytest.raises(UsageError, match="precision"):
        search_network(Picky(), x, "half")  # type: ignore[arg-type]


def test_a_network_that_bfloat16_spoils_keeps_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)
            self.last = nn.Linear(4, 2, bias=False)
            self.last.weight.data = torch.tensor([[1e4, 0.0, 0.0, 0.0], [-1e4, 0.0, 0.0, 0.0]])

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.linear(x) + 1000.0 - 1000.0)

    monkeypatch.setattr(precision, "benchmark", lambda networks, x, seconds: [1.0, 0.1][: len(networks)])
    assert search_network(Fine().eval(), torch.randn(64, 4), "auto") is None


class Timed(nn.Module):
    """A network that notes how many images it is asked about, and takes its time."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.asked: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, 4) of points (n, 4)."""
        self.asked.append(len(x))
        time.sleep(self.seconds * len(x))
        return 2 * x


def test_a_slow_network_is_timed_on_fewer_images() -> None:
    x = torch.rand(128, 4)
    quick, slow = Timed(0.0), Timed(2e-3)
    benchmark([quick], x, 1.0)
    assert quick.asked[-1] == 128
    (taken,) = benchmark([slow], x, 0.02)
    assert slow.asked[-1] <= 16
    assert taken >= 128 * 2e-3, "extrapolated to all of them"


class Fooled(nn.Module):
    """Always another class than 0."""

    margin_error = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, 2) of points (n, 4)."""
        return torch.cat([torch.zeros(len(x), 1), torch.ones(len(x), 1)], dim=1)


@pytest.mark.parametrize(("goal", "confirmations"), [("decide", 60), ("minimize", 1 + 1)])
def test_a_minimisation_confirms_the_closest_point_every_fiftieth_time(goal: Goal, confirmations: int) -> None:
    """Each of sixty points is closer than the one before, and fools both networks."""
    start = replace(problem(torch.zeros(8, 4), torch.zeros(8, dtype=torch.int64)), goal=goal)
    oracle = oracle_over(Fooled(), start, low=Fooled())
    oracle.forward.choose(torch.ones(8, dtype=torch.bool))
    for size in range(60, 0, -1):
        oracle.logits(torch.full((8, 4), size / 100))
    assert oracle.confirmed == 8 * confirmations
    seen = 60 if goal == "decide" else 50
    assert oracle.found_at.tolist() == [seen] * 8
    assert torch.allclose(oracle.problem.best, torch.tensor(2 * (61 - seen) / 100)), "the fiftieth counts for both"
    assert bool(oracle.unconfirmed_distance.isfinite().all()) is (goal == "minimize")
    oracle.forward.choose(torch.zeros(8, dtype=torch.bool))
    oracle.logits(torch.full((8, 4), 5e-3))
    assert torch.allclose(oracle.problem.best, torch.tensor(0.01)), "a fine step counts whenever it comes"
    oracle.forget(torch.arange(8), torch.full((8,), float("inf")))
    assert bool(oracle.unconfirmed_distance.isinf().all())


@pytest.mark.parametrize("goal", ["decide", "minimize"])
def test_what_recorded_steps_find_waits_for_one_confirmation(goal: Goal) -> None:
    """Of four slots one finds a point that fools both, one a lie, one nothing beyond doubt, and one nothing closer."""

    class Beyond(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return torch.stack([0.5 - x.norm(dim=1), x.norm(dim=1) - 0.5], dim=1)

    class Surer(nn.Module):
        margin_error = 0.1

        def forward(self, x: Tensor) -> Tensor:
            size = x.norm(dim=1)
            return torch.stack([torch.zeros_like(size), size - 0.1], dim=1)

    exact = Beyond()
    start = replace(problem(torch.zeros(4, 4), torch.zeros(4).long()), goal=goal)
    start.best[3] = 0.55
    oracle = oracle_over(exact, start, low=Surer())
    oracle.forward.choose_all(True)
    direction = torch.full((4, 4), 0.5)
    for sizes in ([0.9, 0.9, 0.15, 0.9], [0.6, 0.4, 0.15, 0.6], [0.7, 0.8, 0.15, 0.7]):
        oracle.logits(direction * torch.tensor(sizes)[:, None])
    assert exact.calls == 0
    assert bool(start.best[:3].isinf().all())
    oracle.confirm()
    assert (exact.calls, oracle.forwards) == (1, 4)
    assert start.best.tolist() == pytest.approx([0.6, float("inf"), float("inf"), 0.55])
    assert oracle.found_at.tolist() == [2, 0, 0, 0]
    assert torch.allclose(oracle.nearest[0], direction[0] * 0.6)
    assert bool(oracle.unconfirmed_distance.isinf().all()), "a lie is forgotten"
    oracle.forward.choose_all(False)
    oracle.logits(direction * 0.52)
    assert start.best.tolist() == pytest.approx([0.52] * 4), "a fine step counts at once"


def test_of_the_points_that_wait_the_closest_is_confirmed_and_a_lie_forgotten() -> None:
    """The distances go up and down; the network agrees with the search only beyond 0.5."""

    class Beyond(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([0.5 - x.norm(dim=1), x.norm(dim=1) - 0.5], dim=1)

    oracle = oracle_over(Beyond(), problem(torch.zeros(2, 4), torch.zeros(2).long()), low=Fooled())
    oracle.forward.choose(torch.ones(2, dtype=torch.bool))
    direction = torch.full((2, 4), 0.5)
    closest = torch.tensor([0.6, 0.4])
    for step in range(1, 51):
        size = torch.tensor([1.0, 1.0]) if step == 1 else closest if step == 17 else torch.tensor([0.9, 0.8])
        oracle.logits(direction * size[:, None])
    assert oracle.problem.best.tolist() == pytest.approx([0.6, 1.0])
    assert oracle.found_at.tolist() == [17, 1]
    assert bool(oracle.unconfirmed_distance.isinf().all()), "both were looked into"


def test_a_point_that_waits_to_the_end_is_verified() -> None:
    """The search network sees examples close by; the last, fine step sees none."""
    model, data = load_model("digits-plain"), load_dataset("digits", n=24)
    with torch.no_grad():
        y = model.module(data.x).argmax(1)
    low = Lowered(model.module, data.x)
    closest: dict[bool, Tensor] = {}
    for kept in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if not kept:
                patch.setattr(ModelOracle, "_keep", lambda *_: None)
            bracket, _ = run_leg(
                model, data.x, y, Threat("l2", (1.0,)), "cw", iterations=30, search=low, goal="minimize"
            )
        closest[kept] = bracket.distance
        assert all(int(model.module(one.point[None]).argmax()) != int(y[k]) for k, one in bracket.found().items())
    assert bool((closest[True] <= 1.01 * closest[False]).all())
    assert float((closest[True] < 0.99 * closest[False]).double().mean()) > 0.1


def test_idle_slots_ask_for_no_network_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """36 images in 40 slots: the float32 network is asked only by images in the last twentieth of their iterations."""
    model, data = load_model("digits-plain"), load_dataset("digits", n=36)
    asked: list[tuple[bool, bool, bool]] = []
    choose, step, problems = Forward.choose, Stepper.__call__, list[Problem]()

    def stepped(self: Stepper, oracle: ModelOracle, state: Any) -> Any:
        problems.append(oracle.problem)
        return step(self, oracle, state)

    def seen(self: Forward, low: Tensor) -> None:
        idle = problems[-1].best < 0
        asked.append((bool(idle.any()), bool(low.any()), bool((~low & idle).any())))
        choose(self, low)

    monkeypatch.setattr(Stepper, "__call__", stepped)
    monkeypatch.setattr(Forward, "choose", seen)
    low = Lowered(model.module, data.x)
    run_leg(model, data.x, data.y, Threat("linf", (0.04,)), "pgd", iterations=100, search=low, slots=40)
    mixed = [fine for idle, coarse, fine in asked if idle and coarse]
    assert len(mixed) > 10
    assert not any(mixed)
