"""A leg: company, seeds, snapshots, and what it leaves alone."""

from __future__ import annotations

import copy
import json
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import REGISTERED, broken, known, run_leg, stage_over, toy

from robcert.attacks import attacks
from robcert.bracket import Bracket
from robcert.data import load_dataset
from robcert.network import load_model
from robcert.network.batching import logits_of
from robcert.search.snapshot import Snapshot
from robcert.search.stage import Stage
from robcert.types import Batch, LoadedModel, Threat, ThreatNorm

EPS: dict[ThreatNorm, float] = {"l2": 0.5, "linf": 0.08, "l1": 2.0}


@pytest.fixture(scope="module")
def digits() -> Batch:
    data = load_dataset("digits", n=128)
    return Batch(data.x, data.y, data.index)


@pytest.fixture(scope="module", params=["digits-plain", "digits-l2nnn"])
def model(request: pytest.FixtureRequest) -> LoadedModel:
    return load_model(request.param)


def some(digits: Batch, rows: list[int]) -> dict[str, Tensor]:
    return {"x": digits.x[rows], "y": digits.y[rows], "index": digits.index[rows]}


@pytest.mark.parametrize("name", ["cw", "pgd"])
def test_company_changes_no_verdict(model: LoadedModel, digits: Batch, name: str) -> None:
    """Alone, seven at a time, all 128 at once, and in another order: the same status for every image."""
    threat, options = Threat("l2", (0.5,)), {"iterations": 30, "restarts": 2, "search_steps": 4}
    together = broken(run_leg(model, threat=threat, name=name, **some(digits, list(range(128))), **options)[0], 0.5)
    assert 10 < sum(together) < 118, "the comparison means something"
    sevens: list[bool] = []
    for start in range(0, 56, 7):
        rows = list(range(start, start + 7))
        sevens += broken(run_leg(model, threat=threat, name=name, **some(digits, rows), **options)[0], 0.5)
    assert sevens == together[:56]
    for k in range(0, 128, 32):
        alone = broken(run_leg(model, threat=threat, name=name, **some(digits, [k]), **options)[0], 0.5)
        assert alone == [together[k]]
    back = list(range(127, -1, -1))
    found = run_leg(model, threat=threat, name=name, **some(digits, back), **options, slots=16)[0]
    assert broken(found, 0.5) == together[::-1], "slots that are refilled change nothing either"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "norm"), REGISTERED)
def test_company_changes_no_verdict_anywhere(model: LoadedModel, digits: Batch, name: str, norm: ThreatNorm) -> None:
    eps = EPS[norm]
    options: dict[str, Any] = {"iterations": 100, "restarts": 3, "threat": Threat(norm, (eps,)), "name": name}
    together = broken(run_leg(model, **some(digits, list(range(128))), **options)[0], eps)
    sevens: list[bool] = []
    for start in range(0, 128, 7):
        sevens += broken(run_leg(model, **some(digits, list(range(start, min(128, start + 7)))), **options)[0], eps)
    assert sevens == together
    alone = [broken(run_leg(model, **some(digits, [k]), **options)[0], eps)[0] for k in range(128)]
    assert alone == together


def test_the_seed_changes_only_what_is_random(plain: LoadedModel, digits: Batch) -> None:
    rows = some(digits, list(range(24)))
    threat = Threat("l2", (0.5,))
    cw = [run_leg(plain, threat=threat, name="cw", iterations=30, seed=seed, **rows)[0] for seed in (0, 1)]
    assert known(cw[0]) == known(cw[1])
    start = [
        run_leg(plain, threat=threat, name="pgd", iterations=10, seed=seed, random_start=False, **rows)[0]
        for seed in (0, 1)
    ]
    assert known(start[0]) == known(start[1])
    pgd = [run_leg(plain, threat=threat, name="pgd", iterations=10, seed=seed, **rows)[0] for seed in (0, 1, 0)]
    assert known(pgd[0]) == known(pgd[2])
    assert not torch.equal(pgd[0].distance, pgd[1].distance)


def test_restarts_begin_elsewhere(plain: LoadedModel, digits: Batch) -> None:
    rows = some(digits, list(range(60)))
    threat = Threat("l2", (0.35,))
    for name in ("cw", "pgd"):
        counts = []
        for restarts in (1, 6):
            found, leg = run_leg(plain, threat=threat, name=name, iterations=10, restarts=restarts, **rows)
            counts.append(sum(broken(found, 0.35)))
            assert leg.entered == 60
            assert leg.work == 60 * restarts
            assert leg.left == leg.work
        assert counts[1] >= counts[0]
        assert any(example is not None and example.provenance.restart > 0 for example in found.examples)


@pytest.mark.drawn(5)
@pytest.mark.parametrize("goal", ["decide", "minimize"])
@pytest.mark.parametrize("name", attacks.names())
def test_a_snapshot_at_any_look_continues_to_the_same_end(
    plain: LoadedModel, digits: Batch, name: str, goal: Any
) -> None:
    """Bit for bit, through JSON, while slots are refilled and the batch shrinks."""
    rows = some(digits, list(range(20)))
    images = Batch(rows["x"], rows["y"], rows["index"])
    kind = attacks.get(name)
    steps = {"search_steps": 3} if "search_steps" in {f.name for f in fields(kind)} else {}  # type: ignore[arg-type]
    attack = kind(iterations=11, **steps)  # a prime: a look after every step
    norm: ThreatNorm = "l2" if "l2" in kind.norms else min(kind.norms)
    arguments: dict[str, Any] = {
        "model": plain, "attack": attack, "name": name, "images": images, "threat": Threat(norm, (EPS[norm],)),
        "goal": goal, "restarts": 2, "slots": 8,
    }  # fmt: skip
    kept: list[tuple[Snapshot, Bracket]] = []

    def look(leg: Stage) -> None:
        if leg.slots.remaining:
            snapshot = leg.snapshot()
            tensors = {key: tensor.clone() for key, tensor in snapshot.tensors.items()}
            kept.append((Snapshot(tensors, json.loads(json.dumps(snapshot.meta))), copy.deepcopy(leg.bracket)))

    whole = stage_over(**arguments)
    whole.run(look)
    assert len(kept) > (1 if name == "fgsm" else 5)
    for snapshot, bracket in kept[:: max(1, len(kept) // 8)]:
        resumed = stage_over(bracket=bracket, snapshot=snapshot, **arguments)
        resumed.run()
        assert known(whole.bracket) == known(resumed.bracket)
        assert resumed.spent.forwards == whole.spent.forwards
        assert resumed.spent.backwards == whole.spent.backwards
        assert (resumed.entered, resumed.left, resumed.work) == (whole.entered, whole.left, whole.work)


class Busy(nn.Module):
    """Everything that an attack could disturb: parameters, running statistics, dropout, a frozen part."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 10)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


@pytest.mark.parametrize(("name", "norm"), REGISTERED)
def test_the_model_is_left_as_it_was(digits: Batch, name: str, norm: ThreatNorm) -> None:
    from robcert.network import from_module

    torch.manual_seed(0)
    users = Busy().train()
    users.body[1].weight.requires_grad_(False)
    users(digits.x).sum().backward()
    loaded = from_module(users, input_shape=(1, 8, 8), num_classes=10)

    def state(module: nn.Module) -> list[Any]:
        tensors = [*module.state_dict().items(), *((k, p.grad) for k, p in module.named_parameters())]
        return [
            [(key, None if t is None else t.detach().clone()) for key, t in tensors],
            [(key, p.requires_grad) for key, p in module.named_parameters()],
            [(key, part.training) for key, part in module.named_modules()],
        ]

    def check(before: list[Any], after: list[Any]) -> None:
        for (key, old), (other, new) in zip(before[0], after[0], strict=True):
            assert key == other
            assert (old is None) == (new is None)
            assert old is None or torch.equal(old, new)
        assert before[1:] == after[1:]

    x, y = digits.x[:8].clone(), users.eval()(digits.x[:8]).argmax(1)
    users.train()
    theirs, ours = state(users), state(loaded.module)
    assert not any(training for _, training in ours[2])
    grad = torch.is_grad_enabled()
    run_leg(loaded, x, y, Threat(norm, (EPS[norm],)), name, "minimize", iterations=10, restarts=2)
    check(theirs, state(users))
    check(ours, state(loaded.module))
    assert torch.equal(x, digits.x[:8]), "nor are the images touched"
    assert torch.is_grad_enabled() == grad


class Constant(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor([1.0, 0.0]).expand(len(x), 2) + 0 * x.flatten(1)[:, :1]


class Quantised(nn.Module):
    """Right everywhere near the images, and flat: no gradient says where to go."""

    def forward(self, x: Tensor) -> Tensor:
        steps = (x.flatten(1) * 2).round().sum(1, keepdim=True) + 0 * x.flatten(1)[:, :1]
        return torch.cat([steps * 0 + 1, (steps > 1e9).float()], dim=1)


class Saturated(nn.Module):
    """A sigmoid that has reached 1 in float32."""

    def forward(self, x: Tensor) -> Tensor:
        sure = torch.sigmoid(1000 + 1e-3 * x.flatten(1).sum(1, keepdim=True))
        return torch.cat([sure, 1 - sure], dim=1)


@pytest.mark.drawn(2)
@pytest.mark.parametrize("net", [Constant(), Quantised(), Saturated()], ids=lambda net: type(net).__name__)
@pytest.mark.parametrize(("name", "norm"), REGISTERED)
def test_a_failed_image_is_explicit_and_zero_gradients_are_noticed(net: nn.Module, name: str, norm: ThreatNorm) -> None:
    x, y = torch.rand(5, 16), torch.zeros(5, dtype=torch.int64)
    for goal in ("decide", "minimize"):
        found, leg = run_leg(toy(net, (16,), 2), x, y, Threat(norm, (0.3,)), name, goal, iterations=10)  # type: ignore[arg-type]
        assert found.distance.tolist() == [float("inf")] * 5
        assert found.examples == [None] * 5, "no image stands for a failure"
        asks_for_gradients = attacks.get(name).cost.backwards > 0
        assert leg.zero_gradient == (set(range(5)) if asks_for_gradients else set())


def test_an_ordinary_network_raises_no_alarm(plain: LoadedModel, digits: Batch) -> None:
    _, leg = run_leg(plain, threat=Threat("l2", (0.3,)), name="pgd", **some(digits, list(range(30))))
    assert (leg.zero_gradient, leg.non_finite, leg.unconfirmed) == (set(), set(), set())


class NanBeyond(nn.Module):
    """NaN where the mean exceeds 0.55; class 1 only there, in the eyes of who compares carelessly."""

    def forward(self, x: Tensor) -> Tensor:
        mean = x.flatten(1).mean(1, keepdim=True)
        safe = torch.log(0.55 - mean)  # NaN beyond
        return torch.cat([safe * 0 + 1 - mean, safe * 0 + mean - 0.5], dim=1)


@pytest.mark.parametrize(("name", "norm"), REGISTERED)
def test_nan_is_never_a_success(name: str, norm: ThreatNorm) -> None:
    x, y = torch.full((4, 16), 0.5), torch.zeros(4, dtype=torch.int64)
    eps: dict[ThreatNorm, float] = {"l2": 1.0, "linf": 0.25, "l1": 4.0}
    found, leg = run_leg(toy(NanBeyond(), (16,), 2), x, y, Threat(norm, (eps[norm],)), name, iterations=20)
    assert found.distance.tolist() == [float("inf")] * 4
    if attacks.get(name).cost.backwards and name != "fgsm":  # which takes its gradient at the clean image only
        assert leg.non_finite == {0, 1, 2, 3}


class TwoFaced(nn.Module):
    """Fooled while gradients are taken, right when it is asked again: the search cannot be believed."""

    def forward(self, x: Tensor) -> Tensor:
        lie = -1.0 if torch.is_grad_enabled() else 1.0
        flat = x.flatten(1).sum(1, keepdim=True) * 1e-3
        return torch.cat([lie + flat, -lie - flat], dim=1)


def test_what_the_verifier_refuses_is_noted_and_never_counted() -> None:
    x, y = torch.rand(3, 16), torch.zeros(3, dtype=torch.int64)
    found, leg = run_leg(toy(TwoFaced(), (16,), 2), x, y, Threat("l2", (0.3,)), "pgd", iterations=3)
    assert found.distance.isinf().all()
    assert leg.unconfirmed == {0, 1, 2}


def test_logits_do_not_depend_on_the_batch(model: LoadedModel, digits: Batch) -> None:
    whole = logits_of(model.module, digits.x, 128)
    for slots in (8, 16, 64, 128):
        found = logits_of(model.module, digits.x[:50], slots)
        bound = model.rounding * whole[:50].abs().amax(1, keepdim=True)
        assert bool(((found - whole[:50]).abs() <= bound).all())
    assert logits_of(model.module, digits.x[:0], 8).shape == (0, 10)


def test_decided_images_make_the_batch_smaller(plain: LoadedModel, digits: Batch) -> None:
    """The images that break leave, and the steps of those that hold are made in a batch of about their number."""
    rows: list[int] = []
    watched = plain.module.register_forward_pre_hook(lambda module, given: rows.append(len(given[0])))
    try:
        images, threat = some(digits, list(range(120))), Threat("l2", (0.5,))
        bracket, leg = run_leg(plain, **images, threat=threat, name="pgd", abort_early=False)
    finally:
        watched.remove()
    standing = 120 - sum(broken(bracket, 0.5))
    assert 8 < standing < 90, "it means something"
    assert all(count % 8 == 0 for count in rows)
    assert max(rows) == 120
    assert leg.slots.count <= 1.25 * (standing + 8)
    assert leg.slots.count not in (8, 16, 32, 64, 128), "no power of two, for this number of images"
