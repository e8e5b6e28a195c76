"""What only a GPU can say: graphs and fused kernels find what launched steps find, and a CPU confirms it."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import pytest
import torch
from tape import Launched
from test_capture import EPS, GOALS, build, same
from toys import REGISTERED, known, stage_over

from robcert.accel.precision import search_network
from robcert.criteria.misclassified import margin
from robcert.data import load_dataset
from robcert.network import load_model
from robcert.search.snapshot import Snapshot
from robcert.search.stage import Stage
from robcert.types import Batch, Goal, LoadedModel, Threat, ThreatNorm

if not torch.cuda.is_available():
    pytest.skip("there is no GPU", allow_module_level=True)

LONG = [pair for pair in REGISTERED if pair[0] in ("cw", "pgd", "apgd", "ddn", "fmn")]


@pytest.fixture(autouse=True)
def deterministic() -> Generator[None]:
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    yield
    torch.backends.cudnn.deterministic = before


@pytest.fixture(scope="module")
def there() -> LoadedModel:
    return load_model("digits-plain", device="cuda")


@pytest.fixture(scope="module")
def images() -> Batch:
    data = load_dataset("digits", n=24)
    return Batch(data.x.cuda(), data.y.cuda(), data.index.cuda())


def leg_over(model: LoadedModel, images: Batch, name: str, norm: ThreatNorm, goal: Goal, **more: Any) -> Stage:
    patience = more.pop("patience", None)
    given: dict[str, Any] = {"attack": build(name, 30), "restarts": 1, "slots": 16}
    leg = stage_over(model, name=name, images=images, threat=Threat(norm, (EPS[norm],)), goal=goal, **(given | more))
    if patience is None:
        leg.stepper.compiler = None
    else:
        leg.stepper.patience = patience
    return leg


@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize(("name", "norm"), REGISTERED)
def test_a_graph_finds_what_launched_steps_find(
    there: LoadedModel, images: Batch, name: str, norm: ThreatNorm, goal: Goal
) -> None:
    launched = leg_over(there, images, name, norm, goal, recorder=Launched())
    captured = leg_over(there, images, name, norm, goal)
    launched.run()
    captured.run()
    assert captured.stepper.refused is None
    same(launched, captured)


@pytest.mark.parametrize(("name", "norm"), LONG)
def test_fused_kernels_find_what_the_steps_find(there: LoadedModel, images: Batch, name: str, norm: ThreatNorm) -> None:
    more: dict[str, Any] = {"attack": build(name, 100)}
    captured = leg_over(there, images, name, norm, "minimize", **more)
    fused = leg_over(there, images, name, norm, "minimize", patience=30, **more)
    captured.run()
    fused.run()
    assert (fused.stepper.refused, fused.stepper.unfused) == (None, None)
    assert fused.stepper.fusing is not None
    found = captured.bracket.distance.isfinite()
    assert torch.equal(found, fused.bracket.distance.isfinite())
    far = [leg.bracket.distance[found].mean() for leg in (captured, fused)]
    assert abs(far[1] / far[0] - 1) < 0.02


@pytest.mark.parametrize("search", [False, True], ids=["float32", "bfloat16"])
def test_what_a_gpu_finds_a_cpu_confirms(there: LoadedModel, images: Batch, search: bool) -> None:
    low = search_network(there.module, images.x[:16], "bfloat16") if search else None
    leg = leg_over(there, images, "cw", "l2", "minimize", low=low, patience=30)
    leg.run()
    assert leg.stepper.refused is None
    home = load_model("digits-plain")
    for position, example in leg.bracket.found().items():
        x, clean, y = example.point[None], images.x[position].cpu()[None], images.y[position].cpu()[None]
        assert float(margin(home.module(x), y)) > 0
        assert float(Threat("l2", (1.0,)).distance(clean, x)) == pytest.approx(
            float(leg.bracket.distance[position]), rel=1e-12
        )
    assert len(leg.bracket.found()) > 12


@pytest.mark.parametrize("patience", [None, 20])
def test_resumed_is_uninterrupted(there: LoadedModel, images: Batch, patience: int | None) -> None:
    kept: list[Snapshot] = []
    few = replace(images, x=images.x[:16], y=images.y[:16], index=images.index[:16])
    whole = leg_over(there, few, "cw", "l2", "minimize", patience=patience)
    whole.run(lambda leg: kept.append(leg.snapshot()) if len(kept) < 2 else None)
    resumed = leg_over(there, few, "cw", "l2", "minimize", patience=patience, snapshot=kept[-1])
    resumed.run()
    assert known(whole.bracket) == known(resumed.bracket)
