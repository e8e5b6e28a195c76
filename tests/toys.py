"""Networks whose smallest adversarial distance is known, and one leg of an attack, without a run around it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robcert.accel.capture import recorder_for
from robcert.accel.fusion import compiler_for
from robcert.accel.precision import Lowered
from robcert.accel.stepper import Forward, Networks, Stepper
from robcert.attacks import Attack, Problem, attacks
from robcert.bracket import Bracket
from robcert.search.expectation import draws_of
from robcert.search.oracle import Guard, ModelOracle
from robcert.search.problem import SearchProblem, Work
from robcert.search.stage import Stage
from robcert.types import BOUND_NORMS, Batch, Goal, LoadedModel, Source, Threat, ThreatNorm

WIDE = (-10.0, 11.0)
"""A box that no perturbation of an image in [0, 1] in these tests reaches."""
DUAL = {"l2": 2.0, "linf": 1.0, "l1": float("inf")}

REGISTERED: list[tuple[str, ThreatNorm]] = [
    (name, norm) for name, kind in attacks.items() for norm in BOUND_NORMS if norm in kind.norms
]
"""Every registered attack in every norm that it supports: a new attack is tested by being there."""


TARGETED = {
    name for name, kind in attacks.items() if getattr(kind(iterations=1), "targeted", False) and name != "superdeepfool"
}
"""Attacks that aim at one class a restart."""


@dataclass(frozen=True)
class Factor:
    """A row of the table in docs/attacks.md: within this factor of the exact distance after so many iterations."""

    factor: float
    iterations: int


def documented_factors() -> dict[tuple[str, ThreatNorm], Factor]:
    """The factors of docs/attacks.md by attack and norm."""
    table = (Path(__file__).parents[1] / "docs" / "attacks.md").read_text().split("## Plans")[0]
    found: dict[tuple[str, ThreatNorm], Factor] = {}
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) < 5 or not cells[0].startswith("`"):
            continue
        for part in filter(None, cells[3].split(", ")):
            norm, factor = part.split()
            found[cells[0].strip("`"), norm] = Factor(float(factor), int(cells[4]))  # type: ignore[index]
    return found


def toy(
    module: nn.Module,
    shape: tuple[int, ...],
    classes: int,
    box: tuple[float, float] = (0.0, 1.0),
    rounding: float = 2.0**-20,
) -> LoadedModel:
    """A module as the engine wants it."""
    source = Source("toy", "", "memory", "0" * 64)
    return LoadedModel(module.eval().requires_grad_(False), "toy", shape, classes, box, source, rounding)


def random_linear(entries: int, classes: int, seed: int, n: int = 60) -> tuple[nn.Linear, Tensor, Tensor]:
    """A random linear classifier, and images in [0, 1] with its own answers as labels."""
    torch.manual_seed(seed)
    net = nn.Linear(entries, classes)
    x = torch.rand(n, entries)
    with torch.no_grad():
        return net, x, net(x).argmax(dim=1)


def exact_distance(net: nn.Linear, x: Tensor, y: Tensor, norm: ThreatNorm) -> Tensor:
    """min over j of margin_j / ||w_y - w_j||_dual in float64: what no adversarial example can beat."""
    weight = net.weight.detach().double()
    logits = x.double() @ weight.T + net.bias.detach().double()
    gaps = logits.gather(1, y[:, None]) - logits
    lengths = torch.linalg.vector_norm(weight[y][:, None, :] - weight[None], ord=DUAL[norm], dim=2)
    ratios = gaps / lengths
    ratios[torch.arange(len(y)), y] = float("inf")
    return ratios.amin(dim=1)


def run_leg(
    model: LoadedModel,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    name: str,
    goal: Goal = "decide",
    iterations: int = 100,
    restarts: int = 1,
    seed: int = 0,
    slots: int = 128,
    index: Tensor | None = None,
    search: Lowered | None = None,
    layout: nn.Module | None = None,
    **options: Any,
) -> tuple[Bracket, Stage]:
    """Run one stage over all images."""
    images = Batch(x, y, torch.arange(len(y)) if index is None else index)
    attack = attacks.get(name)(iterations=iterations, **options)
    more: dict[str, Any] = {"seed": seed, "restarts": restarts, "slots": slots, "low": search, "exact": layout}
    stage = stage_over(model, attack, name, images, threat, goal, **more)
    stage.run()
    return stage.bracket, stage


def stage_over(
    model: LoadedModel,
    attack: Attack,
    name: str,
    images: Batch,
    threat: Threat,
    goal: Goal,
    bracket: Bracket | None = None,
    exact: nn.Module | None = None,
    low: Lowered | None = None,
    recorder: Any = None,
    compiler: Any = None,
    snapshot: Any = None,
    **more: Any,
) -> Stage:
    """A stage over all images, from the fields of what it is made of."""
    bracket, problem = Bracket(images.index) if bracket is None else bracket, ("seed", "criterion", "guard")
    search = SearchProblem(
        model, images, bracket, threat, goal, **{key: more.pop(key) for key in problem if key in more}
    )
    device = images.x.device
    networks = Networks(exact or model.module, low)
    stepper = Stepper(attack, networks, recorder or recorder_for(device), compiler or compiler_for(device))
    return Stage(search, Work(name, list(range(len(images.x))), **more), stepper, snapshot)


def oracle_over(
    module: nn.Module, problem: Problem, rounding: float = 2.0**-20, low: Any = None, guard: Guard | None = None
) -> ModelOracle:
    """The oracle of a batch."""
    forward = Forward(Networks(module, low), torch.zeros_like(problem.y, dtype=torch.bool))
    return ModelOracle(problem, forward, rounding, guard, draws_of(module))


def broken(bracket: Bracket, eps: float) -> list[bool]:
    """Per image: was an example within eps found?"""
    return (bracket.distance <= eps).tolist()


def known(bracket: Bracket) -> dict[int, tuple[Any, ...]]:
    """All that is known about each image, to be compared, by its index."""
    rows = zip(bracket.index.tolist(), bracket.wrong.tolist(), bracket.examples, bracket.certificates, strict=True)
    return {
        index: (wrong, None if example is None else example.key, certificate)
        for index, wrong, example, certificate in rows
    }
