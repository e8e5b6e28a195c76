"""A step as one graph of operators is the step, bit for bit; what a compiler makes of it is compared with it first."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from tape import Tape
from test_capture import GOALS, Louder, build, leg_over, same
from torch import Tensor, nn
from torch.fx import GraphModule
from toys import REGISTERED

from robcert.accel.fusion import Kernels, Unfused, compiler_for, fuse, inductor
from robcert.accel.stepper import PATIENCE
from robcert.data import load_dataset
from robcert.search.snapshot import Snapshot
from robcert.search.stage import Stage
from robcert.types import Batch, Goal, LoadedModel, ThreatNorm


@pytest.fixture(scope="module")
def few() -> Batch:
    data = load_dataset("digits", n=12)
    return Batch(data.x, data.y, data.index)


class AsTraced:
    """Compiles nothing: the graph itself, operator by operator."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: GraphModule, given: list[Tensor]) -> Kernels:
        self.graphs += 1
        return graph


def fused_leg(
    model: LoadedModel,
    images: Batch,
    name: str,
    norm: ThreatNorm,
    goal: Goal,
    compiler: Any,
    patience: int = 0,
    **more: Any,
) -> Stage:
    leg = leg_over(model, images, name, norm, goal, Tape(), compiler=compiler, **more)
    leg.stepper.patience = patience
    return leg


@pytest.mark.drawn(6)
@pytest.mark.parametrize("patience", [0, 6])
@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize(("name", "norm"), REGISTERED)
def test_a_fused_leg_is_the_leg(
    plain: LoadedModel, few: Batch, name: str, norm: ThreatNorm, goal: Goal, patience: int
) -> None:
    """Whatever a step writes, also in place, is in the graph; fused from the start or after two recorded looks."""
    more: dict[str, Any] = {"attack": build(name, 30), "restarts": 1}
    eager = leg_over(plain, few, name, norm, goal, **more)
    compiler = AsTraced()
    fused = fused_leg(plain, few, name, norm, goal, compiler, patience, **more)
    eager.run()
    fused.run()
    assert (fused.stepper.refused, fused.stepper.unfused) == (None, None)
    ends_before = name == "fgsm" and patience > 0
    assert (compiler.graphs == 0, fused.stepper.fusing is None) == (ends_before, ends_before)
    same(eager, fused)


@pytest.mark.parametrize(("name", "norm"), [("cw", "l2"), ("pgd", "linf"), ("apgd", "linf"), ("ddn", "l2")])
def test_with_a_search_network_each_is_fused(plain: LoadedModel, few: Batch, name: str, norm: ThreatNorm) -> None:
    search: Any = Louder(plain.module)
    more: dict[str, Any] = {"attack": build(name, 200, search_steps=1) if name != "ddn" else build(name, 200)}
    more |= {"restarts": 1, "slots": 32, "low": search}
    compiler = AsTraced()
    recorded = leg_over(plain, few, name, norm, "decide", Tape(), **more)
    fused = fused_leg(plain, few, name, norm, "decide", compiler, **more)
    recorded.run()
    fused.run()
    assert compiler.graphs >= 2
    same(recorded, fused)


def test_patience_counts_steps_of_one_size(plain: LoadedModel, few: Batch) -> None:
    """Eight images in eight slots, ten steps a look: fused at the fourth look, and not again while the size stays."""
    compiler = AsTraced()
    more: dict[str, Any] = {"attack": build("cw", 200, search_steps=1, abort_early=False), "restarts": 1}
    leg = fused_leg(plain, Batch(few.x[:8], few.y[:8], few.index[:8]), "cw", "l2", "minimize", compiler, 30, **more)
    graphs: list[int] = []
    leg.run(lambda _: graphs.append(compiler.graphs))
    assert graphs == [0] * 3 + [1] * 17
    assert leg.stepper.taken == [200, 0]
    leg.resize(16)
    leg.stepper(leg.oracle, leg.state)
    assert leg.stepper.taken == [10, 0]


@pytest.mark.parametrize("at", [1, 4])
def test_a_resumed_leg_is_fused_where_the_other_was(plain: LoadedModel, few: Batch, at: int) -> None:
    """With a compiler that is off by a hundredth, what is found depends on which steps were fused."""

    def inexact(graph: GraphModule, given: list[Tensor]) -> Kernels:
        return lambda *now: [
            torch.where(t.isfinite(), t * 1.01, t) if t.is_floating_point() else t for t in graph(*now)
        ]

    more: dict[str, Any] = {"attack": build("ddn", 100), "restarts": 1, "slots": 16}
    kept: list[Snapshot] = []

    def look(leg: Stage) -> None:
        snapshot = leg.snapshot()
        kept.append(Snapshot({name: t.clone() for name, t in snapshot.tensors.items()}, copy.deepcopy(snapshot.meta)))

    whole = fused_leg(plain, few, "ddn", "l2", "minimize", inexact, 30, **more)
    whole.run(look)
    resumed = fused_leg(plain, few, "ddn", "l2", "minimize", inexact, 30, snapshot=kept[at], **more)
    resumed.run()
    never = leg_over(plain, few, "ddn", "l2", "minimize", Tape(), **more)
    never.run()
    ends = [
        torch.cat([getattr(leg.state, f.name).double().flatten() for f in fields(leg.state)])
        for leg in (whole, resumed, never)
    ]
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2]), "it means something"


@pytest.mark.parametrize(("pace", "fused"), [((2.0, 1.0), True), ((1.0, 2.0), False)])
def test_kernels_that_are_no_faster_are_given_up(
    plain: LoadedModel, few: Batch, pace: tuple[float, float], fused: bool
) -> None:
    """The last replay before is on the clock, and the first one after; who goes on later knows what came of it."""
    more: dict[str, Any] = {"attack": build("ddn", 100), "restarts": 1, "slots": 16}
    tape, compiler, kept = Tape(pace), AsTraced(), list[Snapshot]()
    eager = leg_over(plain, few, "ddn", "l2", "minimize", **more)
    leg = leg_over(plain, few, "ddn", "l2", "minimize", tape, compiler=compiler, **more)
    leg.stepper.patience = 30
    eager.run()
    leg.run(lambda leg: kept.append(leg.snapshot()))
    assert (compiler.graphs, list(tape.took)) == (1, [])
    assert leg.stepper.unfused == (None if fused else "10 steps take 2000.0 ms fused, 1000.0 as they are")
    same(eager, leg)
    resumed = leg_over(plain, few, "ddn", "l2", "minimize", Tape(), compiler=AsTraced(), snapshot=kept[6], **more)
    assert (resumed.stepper.compiler is None) is not fused
    assert resumed.stepper.unfused == leg.stepper.unfused


class Noisy(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x + 0.01 * torch.randn_like(x))


def wrong(change: Callable[[Tensor], Tensor]) -> Any:
    def compiler(graph: GraphModule, given: list[Tensor]) -> Kernels:
        return lambda *now: [change(t) if t.is_floating_point() and t.dim() > 1 else t for t in graph(*now)]

    return compiler


def broken(graph: GraphModule, given: list[Tensor]) -> Kernels:
    raise OSError("no compiler\nin three lines")


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        (broken, "OSError: no compiler"),
        (wrong(torch.zeros_like), "Unfused: the compiled step gives another state.delta"),
        (wrong(lambda t: t + float("nan")), "Unfused: the compiled step gives another state.delta"),
        (wrong(lambda t: t.double()), "Unfused: the compiled step gives another state.delta"),
    ],
)
def test_what_cannot_be_compiled_goes_on_as_it_was(plain: LoadedModel, few: Batch, compiler: Any, reason: str) -> None:
    more: dict[str, Any] = {"attack": build("ddn", 30), "restarts": 1}
    eager = leg_over(plain, few, "ddn", "l2", "minimize", **more)
    tried = fused_leg(plain, few, "ddn", "l2", "minimize", compiler, 6, **more)
    eager.run()
    tried.run()
    assert tried.stepper.unfused == reason
    assert (tried.stepper.refused, tried.stepper.fusing) == (None, None)
    same(eager, tried)


def test_kernels_that_ask_the_host_are_given_up(plain: LoadedModel, few: Batch) -> None:
    """They rehearse like the steps, and like them they may not wait for the device."""

    def asking(graph: GraphModule, given: list[Tensor]) -> Kernels:
        def kernels(*now: Tensor) -> Any:
            return graph(*now) if bool(now[0].abs().sum() >= 0) else None

        return kernels

    more: dict[str, Any] = {"attack": build("ddn", 30), "restarts": 1}
    eager = leg_over(plain, few, "ddn", "l2", "minimize", **more)
    tried = fused_leg(plain, few, "ddn", "l2", "minimize", asking, 6, **more)
    eager.run()
    tried.run()
    assert "aten._local_scalar_dense" in str(tried.stepper.unfused)
    assert tried.stepper.refused is None
    same(eager, tried)


def test_random_networks_are_not_fused(plain: LoadedModel, few: Batch) -> None:
    """A compiler draws other numbers, and the same ones in every replay."""
    leg = leg_over(replace(plain, module=Noisy(plain.module)), few, "pgd", "l2", "minimize", Tape())
    leg.advance()
    with pytest.raises(Unfused, match="draws random numbers"):
        fuse(leg.attack, leg.oracle, leg.state, AsTraced())


def test_fusing_changes_nothing(plain: LoadedModel, few: Batch) -> None:
    leg = leg_over(plain, few, "cw", "l2", "minimize", Tape())
    leg.advance()
    before = {name: tensor.clone() for name, tensor in leg.snapshot().tensors.items()}
    counts = leg.oracle.forwards, leg.oracle.backwards
    fused = fuse(leg.attack, leg.oracle, leg.state, AsTraced())
    assert all(torch.equal(tensor, before[name]) for name, tensor in leg.snapshot().tensors.items())
    assert (leg.oracle.forwards, leg.oracle.backwards) == counts
    assert (fused.forwards, fused.backwards) == (1, 1)
    assert not {"problem.x", "problem.y", "oracle.unconfirmed"} & set(fused.changed), "what stays is not copied"
    assert {"state.w", "oracle.nearest", "problem.best"} <= set(fused.changed)


@pytest.mark.slow
def test_inductor_finds_what_the_steps_find(plain: LoadedModel, few: Batch) -> None:
    """On a CPU, where it is not used but works. Single distances move with the rounding of a long search."""
    more: dict[str, Any] = {"attack": build("cw", 100, search_steps=1), "restarts": 1, "slots": 16}
    eager = leg_over(plain, few, "cw", "l2", "minimize", **more)
    fused = fused_leg(plain, few, "cw", "l2", "minimize", inductor, 30, **more)
    eager.run()
    fused.run()
    if "CppCompileError" in str(fused.stepper.unfused) or "InvalidCxxCompiler" in str(fused.stepper.unfused):
        pytest.skip("TorchInductor needs a C++ compiler and Python's headers for a CPU")
    assert fused.stepper.unfused is None
    assert fused.stepper.fusing is not None
    assert eager.bracket.distance.isfinite().any()
    assert torch.equal(fused.bracket.distance.isfinite(), eager.bracket.distance.isfinite())
    far = [leg.bracket.distance[eager.bracket.distance.isfinite()].mean() for leg in (eager, fused)]
    assert abs(far[1] / far[0] - 1) < 0.02


def test_only_gpus_have_a_compiler() -> None:
    assert compiler_for(torch.device("cpu")) is None
    assert compiler_for(torch.device("cuda", 1)) is inductor
    assert PATIENCE % 10 == 0
