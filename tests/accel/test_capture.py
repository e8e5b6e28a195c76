"""Steps that are recorded and replayed give what steps that run as they are give, bit for bit."""

from __future__ import annotations

import copy
from dataclasses import dataclass, fields, replace
from typing import Any

import pytest
import torch
from tape import Launched, Tape
from torch import Tensor, nn
from toys import REGISTERED, known, stage_over

from robcert.accel.stepper import Networks, Stepper, write
from robcert.attacks import attacks
from robcert.attacks.protocol import Refining
from robcert.bracket import Bracket
from robcert.data import load_dataset
from robcert.search.snapshot import Snapshot
from robcert.search.stage import Stage
from robcert.types import Batch, Goal, LoadedModel, Threat, ThreatNorm

EPS: dict[ThreatNorm, float] = {"l2": 0.5, "linf": 0.08, "l1": 2.0}
GOALS: tuple[Goal, ...] = ("decide", "minimize")
LONG = [(name, norm) for name, norm in REGISTERED if name in ("cw", "pgd", "apgd", "ddn", "square")]


@pytest.fixture(scope="module")
def digits() -> Batch:
    data = load_dataset("digits", n=20)
    return Batch(data.x, data.y, data.index)


def build(name: str, iterations: int = 20, **options: Any) -> Any:
    kind: Any = attacks.get(name)
    if "search_steps" in {f.name for f in fields(kind)}:
        options = {"search_steps": 2, **options}
    return kind(iterations=iterations, **options)


def leg_over(
    model: LoadedModel, images: Batch, name: str, norm: ThreatNorm, goal: Goal, recorder: Any = None, **more: Any
) -> Stage:
    given: dict[str, Any] = {"attack": build(name), "restarts": 2, "slots": 8}
    threat = Threat(norm, (EPS[norm],))
    return stage_over(model, name=name, images=images, threat=threat, goal=goal, recorder=recorder, **(given | more))


def same(one: Stage, other: Stage) -> None:
    assert known(one.bracket) == known(other.bracket)
    assert (one.spent.forwards, one.spent.backwards) == (other.spent.forwards, other.spent.backwards)
    for name in ("entered", "left", "work", "zero_gradient", "non_finite", "unconfirmed", "broke"):
        assert getattr(one, name) == getattr(other, name)


@pytest.mark.drawn(5)
@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize(("name", "norm"), REGISTERED)
def test_a_recorded_leg_is_the_leg(plain: LoadedModel, digits: Batch, name: str, norm: ThreatNorm, goal: Goal) -> None:
    """What a step does in Python would be lost in a replay."""
    few = Batch(digits.x[:12], digits.y[:12], digits.index[:12])
    tape = Tape()
    more: dict[str, Any] = {"attack": build(name, 30), "restarts": 1}  # a look after 3 steps
    eager = leg_over(plain, few, name, norm, goal, **more)
    recorded = leg_over(plain, few, name, norm, goal, tape, **more)
    eager.run()
    recorded.run()
    assert recorded.stepper.refused is None
    assert (tape.recorded, tape.replayed > 0) == (1, True), "it was not eager itself"
    same(eager, recorded)


@pytest.mark.parametrize(
    ("name", "norm", "goal"),
    [*((*pair, "minimize") for pair in LONG), ("cw", "l2", "decide"), ("pgd", "linf", "decide")],
)
def test_refill_shrink_and_resume(plain: LoadedModel, digits: Batch, name: str, norm: ThreatNorm, goal: Goal) -> None:
    """24 attacks in 16 slots: slots are refilled, the batch shrinks to 8, and any look is a place to go on from."""
    kept: list[tuple[Snapshot, Bracket]] = []
    sizes: set[int] = set()

    def look(leg: Stage) -> None:
        sizes.add(leg.slots.count)
        if leg.slots.remaining:
            snapshot = leg.snapshot()
            tensors = {key: tensor.clone() for key, tensor in snapshot.tensors.items()}
            kept.append((Snapshot(tensors, copy.deepcopy(snapshot.meta)), copy.deepcopy(leg.bracket)))

    tape = Tape()
    digits = Batch(digits.x[:12], digits.y[:12], digits.index[:12])
    more: dict[str, Any] = {"attack": build(name, 12 if name == "ddn" else 8), "slots": 16}
    eager = leg_over(plain, digits, name, norm, goal, **more)
    recorded = leg_over(plain, digits, name, norm, goal, tape, **more)
    eager.run()
    recorded.run(look)
    assert tape.replayed > 0
    if goal == "minimize":
        assert sizes == {16, 8}
    same(eager, recorded)
    for snapshot, bracket in kept[1 :: max(1, len(kept) // 2)]:
        resumed = leg_over(plain, digits, name, norm, goal, Tape(), snapshot=snapshot, **(more | {"bracket": bracket}))
        resumed.run()
        same(eager, resumed)


class Asking(nn.Module):
    """Looks at a value, as a network with a branch does."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) if bool(x.sum() > 0) else -self.inner(x)


class Late(Asking):
    """Looks from the fourth call on only, where steps are taken in twos: what was rehearsed is not what is recorded."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x) if self.calls > 3 else self.inner(x)


@pytest.mark.parametrize("kind", [Asking, Late])
@pytest.mark.parametrize("name", ["cw", "pgd"])
def test_a_network_that_asks_the_host_runs_as_it_is(
    plain: LoadedModel, digits: Batch, name: str, kind: type[Asking]
) -> None:
    model, tape = replace(plain, module=kind(plain.module)), Tape()
    eager, recorded = (leg_over(model, digits, name, "l2", "minimize", recorder) for recorder in (None, tape))
    eager.run()
    if isinstance(model.module, Late):
        model.module.calls = 0
    recorded.run()
    assert "aten._local_scalar_dense" in str(recorded.stepper.refused)
    assert (tape.recorded, tape.replayed) == (0, 0)
    assert recorded.oracle.on_host
    same(eager, recorded)


def test_the_network_is_not_called_in_a_replay(plain: LoadedModel, digits: Batch) -> None:
    """The tape does what a graph does: a call that Python counts is not counted, and costs are booked nevertheless."""
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    model = replace(plain, module=nn.Sequential(plain.module))
    model.module.register_forward_pre_hook(count)
    attack = build("cw", 100, search_steps=1, abort_early=False)
    tape = Tape()
    leg = leg_over(model, Batch(digits.x[:8], digits.y[:8], digits.index[:8]), "cw", "l2", "minimize", tape,
                   attack=attack, restarts=1)  # fmt: skip
    leg.run()
    assert tape.replayed == 9
    assert calls < 60, "ten rehearsed, ten recorded, the rest verification"
    assert leg.spent.backwards == 8 * 100


class Louder(nn.Module):
    """A search network of other logits and of mostly the same answers."""

    margin_error = 0.01

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return 2 * self.inner(x) + 0.01 * torch.sin(50 * x.flatten(1).sum(1, keepdim=True)) * torch.ones(10).cumsum(0)


@pytest.mark.parametrize(("name", "norm"), [pair for pair in LONG if pair[0] != "square" and pair[1] != "l1"])
def test_one_network_a_replay(plain: LoadedModel, digits: Batch, name: str, norm: ThreatNorm) -> None:
    """Recorded or launched, and next to each slot with the network that it needs, whose finds are confirmed at once."""
    search: Any = Louder(plain.module)
    tape, launched = Tape(), Launched()
    more: dict[str, Any] = {"attack": build(name, 200, search_steps=1) if name != "ddn" else build(name, 200)}
    more |= {"restarts": 1, "slots": 32, "low": search}
    legs = [leg_over(plain, digits, name, norm, "decide", recorder, **more) for recorder in (None, tape, launched)]
    for leg in legs:
        leg.run()
    eager, recorded, stepped = legs
    assert recorded.stepper.refused is None
    same(stepped, recorded)
    assert recorded.broke == eager.broke
    assert 0 < len(recorded.broke) < len(digits.x), "it means something"
    assert recorded.spent.forwards < 1.25 * recorded.spent.backwards, "one confirmation a look, not one a step"


def test_a_replay_is_fine_if_any_busy_slot_will_be(plain: LoadedModel, digits: Batch) -> None:
    """Five images in eight slots, looks after ten of a hundred iterations, of which the last five are fine."""
    search: Any = Louder(plain.module)
    few = Batch(digits.x[:5], digits.y[:5], digits.index[:5])
    for iterations, asked in (
        ([0, 0, 0, 0, 0, 99, 99, 99], search),
        ([85, 85, 85, 85, 85, 0, 0, 0], search),
        ([80, 80, 86, 80, 80, 0, 0, 0], plain.module),
        ([0, 0, 0, 0, 86, 0, 0, 0], plain.module),
    ):
        more: dict[str, Any] = {"attack": build("pgd", 100), "low": search, "restarts": 1}
        leg = leg_over(plain, few, "pgd", "l2", "minimize", Tape(), **more)
        leg._fill()  # pyright: ignore[reportPrivateUsage]
        leg.stepper(leg.oracle, replace(leg.state, iteration=torch.tensor(iterations).float()))
        assert leg.oracle.forward.asked is asked, iterations


@pytest.mark.parametrize("name", [name for name, kind in attacks.items() if issubclass(kind, Refining)])
def test_fine_looks_as_far_ahead_as_it_is_asked_to(plain: LoadedModel, digits: Batch, name: str) -> None:
    """A replay of so many steps is fine if one of them is, not only the first."""
    leg = leg_over(plain, digits, name, "l2", "minimize", attack=build(name, 20, search_steps=1)
                   if name != "ddn" else build(name, 20))  # fmt: skip
    attack: Any = leg.attack
    at = [replace(leg.state, iteration=torch.full_like(leg.state.iteration, float(k))) for k in range(20)]
    fine = [bool(attack.needs_float32(leg.problem, state).all()) for state in at]
    assert fine[0] is False
    assert fine[-1] is True
    for k in (0, 8, 10, 15):
        assert bool(attack.needs_float32(leg.problem, at[k], 5).all()) == any(fine[k : k + 5])


@dataclass(frozen=True)
class Two:
    a: Tensor
    b: Tensor


def test_writing_survives_aliases() -> None:
    a, b = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
    buffers = Two(a, b)
    write(Two(b, a), buffers)
    assert (buffers.a.tolist(), buffers.b.tolist()) == ([3.0, 4.0], [1.0, 2.0])
    write(Two(a.flip(0), a[:1].expand(2)), buffers)
    assert (buffers.a.tolist(), buffers.b.tolist()) == ([4.0, 3.0], [3.0, 3.0])
    assert buffers.a is a
    assert buffers.b is b


def test_without_a_recorder_nothing_is_added(plain: LoadedModel, digits: Batch) -> None:
    leg = leg_over(plain, digits, "pgd", "l2", "decide")
    assert leg.stepper.recorder is None
    state = leg.attack.init(leg.problem)
    by_hand = copy.copy(state)
    oracle = copy.deepcopy(leg.oracle)
    for _ in range(leg.attack.period):
        by_hand = leg.attack.step(oracle, leg.problem, by_hand)
    through = Stepper(leg.attack, Networks(plain.module))(leg.oracle, state)
    assert all(torch.equal(getattr(by_hand, f.name), getattr(through, f.name)) for f in fields(state))
    assert leg.oracle.on_host
