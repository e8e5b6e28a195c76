"""Getting past a detector: guards in the engine, the Hessian-vector product, and evasive-cw."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from toys import oracle_over, random_linear, run_leg, stage_over, toy

from robcert.attacks import attacks
from robcert.attacks.evasive_cw import answer_loss
from robcert.attacks.protocol import Problem
from robcert.bracket import Bracket
from robcert.data import load_dataset
from robcert.errors import UsageError
from robcert.network import load_model
from robcert.runs.plan import LegPlan, build
from robcert.search.oracle import Guard
from robcert.search.verifier import Verifier
from robcert.sensitivity.detector import Detector
from robcert.types import Batch, LoadedModel, Threat


def guarded(
    model: LoadedModel, x: Tensor, y: Tensor, threat: Threat, name: str, guard: Guard | None, iterations: int
) -> Bracket:
    images = Batch(x, y, torch.arange(len(y)))
    attack = attacks.get(name)(iterations=iterations)
    stage = stage_over(model, attack, name, images, threat, "minimize", guard=guard)
    stage.run()
    return stage.bracket


def problem(x: Tensor, y: Tensor) -> Problem:
    zero = torch.zeros_like(y)
    best = torch.full((len(y),), float("inf"))
    return Problem(x, y, zero, zero.clone(), best, zero[:, None], Threat("l2", (1.0,)), "minimize", 0)


def test_hvp_is_the_gradient_of_the_squared_gradient_norm() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 4)).double()
    x, y = torch.rand(5, 6, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 0])
    oracle = oracle_over(net, problem(x, y), 0.0)
    found = oracle.hvp(answer_loss, x, lambda gradient: 2 * gradient)
    for k in range(5):

        def squared(point: Tensor, k: int = k) -> Tensor:
            loss = answer_loss(net(point[None]), y[k : k + 1]).sum()
            return torch.autograd.grad(loss, point, create_graph=True)[0].square().sum()

        point = x[k].clone().requires_grad_(True)
        torch.testing.assert_close(found.product[k], torch.autograd.grad(squared(point), point)[0])
        assert float(found.gradient[k].square().sum()) == pytest.approx(float(squared(point).detach()))
    assert (oracle.forwards, oracle.backwards) == (1, 2)


def test_hvp_of_a_linear_objective_is_zero() -> None:
    net, x, y = random_linear(8, 3, 0, n=4)
    oracle = oracle_over(net.requires_grad_(False), problem(x, y), 0.0)
    found = oracle.hvp(lambda logits, y: logits[:, 0], x, lambda gradient: gradient)
    assert torch.equal(found.product, torch.zeros_like(x))
    torch.testing.assert_close(found.gradient, net.weight[0].expand(4, 8))


@pytest.mark.parametrize("name", ["pgd", "cw", "boundary", "evasive-cw"])
def test_only_what_the_guard_lets_pass_is_found(name: str) -> None:
    """A guard that wants the first pixel to stay above 0.6: half of the images have to pay for it."""
    net, x, y = random_linear(16, 3, 2, n=16)
    x[:, 0] = torch.linspace(0.3, 0.9, 16)
    y = net(x).argmax(dim=1)
    model, threat = toy(net, (16,), 3, (-10.0, 11.0)), Threat("l2", (0.5,), (-10.0, 11.0))

    def guard(points: Tensor) -> Tensor:
        return points[:, 0] > 0.6

    free = guarded(model, x, y, threat, name, None, 60)
    found = guarded(model, x, y, threat, name, guard, 60)
    assert bool(free.distance.isfinite().all())
    for position, example in found.found().items():
        assert float(example.point[0]) > 0.6, f"{position} got through"
        assert int(net(example.point[None]).argmax()) != int(y[position])
    assert found.found(), "some get past"
    if name != "boundary":  # whose walk of 60 steps is luck
        assert bool((found.distance >= free.distance * 0.9).all())


def test_the_verifier_asks_the_guard() -> None:
    net, x, y = random_linear(16, 3, 2, n=8)
    model, threat = toy(net, (16,), 3), Threat("l2", (9.0,))
    wrong = (y + 1) % 3
    for passing in (True, False):
        verifier = Verifier(model, threat, 8, lambda points, passing=passing: torch.full((len(points),), passing))
        assert verifier(x * 0.9999, x, wrong).accepted.tolist() == [passing] * 8


def test_it_evades_a_detector_and_has_to_go_further() -> None:
    """Paper E, table 6: cw is detected, evasive-cw is not, at a larger distance."""
    model, data = load_model("digits-plain"), load_dataset("digits", n=60)
    detector = Detector(model.module, "probability", 1.6)
    right = (model.module(data.x).argmax(dim=1) == data.y).nonzero().flatten()[:8]
    x, y = data.x[right], data.y[right]
    threat = Threat("l2", (1.0,))
    plain = guarded(model, x, y, threat, "cw", None, 30)
    evasive = guarded(model, x, y, threat, "evasive-cw", detector.passes, 40)
    seen = detector.rejects(detector.values(plain.points(list(range(8)))))
    assert int(seen.sum()) >= 7
    found = list(evasive.found())
    assert len(found) >= 7
    examples = evasive.points(found)
    assert not bool(detector.rejects(detector.values(examples)).any())
    verified = Verifier(model, threat, 128)(examples, x[found], y[found])
    assert bool(verified.accepted.all())
    assert float(evasive.distance.median()) > float(plain.distance.median())


@pytest.mark.parametrize("name", ["pgd-t", "cw-t", "evasive-cw"])
def test_examples_of_the_new_attacks_pass_the_verifier(name: str) -> None:
    """Boundary has the same test in its own file."""
    model, data = load_model("digits-plain"), load_dataset("digits", n=24)
    right = (model.module(data.x).argmax(dim=1) == data.y).nonzero().flatten()[:8]
    x, y = data.x[right], data.y[right]
    threat = Threat("l2", (1.0,))
    found, _ = run_leg(model, x, y, threat, name, "minimize", 20, restarts=9 if name.endswith("-t") else 1)
    assert bool(found.distance.isfinite().all())
    examples = found.points(list(range(len(y))))
    verified = Verifier(model, threat, 128)(examples, x, y)
    assert bool(verified.accepted.all())
    torch.testing.assert_close(verified.distance, found.distance, rtol=0, atol=0)
    assert bool((model.module(examples).argmax(dim=1) != y).all())


def test_without_a_detector_the_penalty_fades() -> None:
    model, data = load_model("digits-plain"), load_dataset("digits", n=24)
    right = (model.module(data.x).argmax(dim=1) == data.y).nonzero().flatten()[:6]
    x, y = data.x[right], data.y[right]
    threat = Threat("l2", (0.5,))
    plain, _ = run_leg(model, x, y, threat, "cw", "minimize", 30)
    free, _ = run_leg(model, x, y, threat, "evasive-cw", "minimize", 30)
    ratio = free.distance / plain.distance
    assert float(ratio.median()) <= 1.15


@pytest.mark.parametrize("options", [{"initial_c": 0.0}, {"initial_penalty": -1.0}, {"search_steps": 0}])
def test_bad_options(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="evasive-cw"):
        build(LegPlan("evasive-cw", 10), "l2", {"evasive-cw": options})
