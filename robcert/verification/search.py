"""The search for a counterexample: a plan of attacks on the classifier that a property makes of a network.

Every attack in l-infinity takes part: see `robcert.verification.problem.Violation`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robcert.accel.forward import Networks
from robcert.accel.stepper import stepper_for
from robcert.attacks.protocol import Attack
from robcert.bracket import Bracket
from robcert.search.problem import SearchProblem, Work
from robcert.search.stage import Stage
from robcert.types import Batch, LoadedModel, Threat
from robcert.verification.outputs import Head
from robcert.verification.problem import Box, Violation

SLOTS = 32
"""Restarts that run side by side."""


@dataclass(frozen=True)
class Leg:
    """One attack of a plan, and how often it starts."""

    name: str
    attack: Attack
    restarts: int = 1


class Finished(Exception):
    """The deadline has passed, or a counterexample is known."""


def candidates(model: LoadedModel, head: Head, box: Box, leg: Leg, seed: int, deadline: float) -> Iterator[Tensor]:
    """Yield inputs (1, *input_shape) float32 of a box at which the network seems to have a counterexample.

    Args:
        model: the network.
        head: what makes the outputs of its logits.
        box: that is searched.
        leg: the attack.
        seed: of its random starts.
        deadline: of `time.monotonic`; the search ends soon after.

    Raises:
        EvaluationError: the attack needs a gradient, and the network has none.
    """
    device = next((p.device for p in model.module.parameters()), torch.device("cpu"))
    module = Violation(model.module, head, box, model.num_classes).to(device).eval()
    centre = torch.zeros(1, *model.input_shape, device=device)
    # No yield in a block without gradients: whoever reads the answers would run in it.
    with torch.no_grad():
        hit = int(module(centre).argmax()) != 0
        middle = module.inputs(centre).cpu()
    if hit:
        yield middle
        return
    asked = replace(
        model,
        module=module,
        num_classes=1 + len(box.cases),
        box=(-1.0, 1.0),
        rounding=0.0,  # whoever asks confirms what is found
    )
    zero = torch.zeros(1, dtype=torch.int64, device=device)
    bracket = Bracket(zero.cpu())
    search = SearchProblem(
        asked, Batch(centre, zero, zero), bracket, Threat("linf", (1.0,), (-1.0, 1.0)), "decide", seed
    )
    stepper = stepper_for(leg.attack, Networks(module), device)
    stage = Stage(search, Work(leg.name, [0], leg.restarts, SLOTS), stepper)

    def watch(_: Stage) -> None:
        if time.monotonic() > deadline:
            raise Finished

    try:
        stage.run(watch)
    except Finished:
        return
    for example in bracket.found().values():
        with torch.no_grad():
            x = module.inputs(example.point.unsqueeze(0).to(device)).cpu()
        yield x
