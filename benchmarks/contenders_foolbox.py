"""foolbox."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable
from typing import Any

import torch
from contender import Attack, Contender, Setting
from task import Counted, Task
from torch import Tensor


def foolbox_attacks() -> list[Contender]:
    foolbox: Any = importlib.import_module("foolbox")
    version = importlib.metadata.version("foolbox")

    def call(make: Callable[[Setting], Any], budget: bool) -> Attack:
        def run(counted: Counted, task: Task, setting: Setting) -> Tensor:
            model = foolbox.PyTorchModel(counted, bounds=(0, 1), device=task.x.device)
            _, clipped, _ = make(setting)(model, task.x, task.y, epsilons=setting.eps if budget else None)
            # Its minimising attacks return a black image where they fail, mostly misclassified.
            black = (clipped == 0).flatten(1).all(dim=1)
            return torch.where(black.view(-1, 1, 1, 1), task.x, clipped)

        return run

    zoo = foolbox.attacks
    last = "returns the last point, not the best; sums the cross-entropy; loss.backward()"
    return [
        Contender(
            "foolbox",
            version,
            "pgd l2",
            "L2PGD",
            last,
            call(lambda s: zoo.L2ProjectedGradientDescentAttack(steps=s.steps), True),
        ),
        Contender(
            "foolbox",
            version,
            "pgd linf",
            "LinfPGD",
            last,
            call(lambda s: zoo.LinfProjectedGradientDescentAttack(steps=s.steps), True),
        ),
        *(
            Contender(
                "foolbox",
                version,
                "cw l2",
                f"L2CarliniWagner, {title}",
                "c searched per image, the bounds in NumPy; returns a black image where it fails "
                "(counted as a failure here); loss.backward()",
                call(
                    lambda s, extra=extra: zoo.L2CarliniWagnerAttack(
                        binary_search_steps=s.searches, steps=s.steps, abort_early=False, **extra
                    ),
                    False,
                ),
                timed=title == "defaults",
            )
            for title, extra in (
                ("defaults", {}),
                ("c = 1, rate 0.05", {"initial_const": 1.0, "stepsize": 0.05}),
            )
        ),
        Contender(
            "foolbox",
            version,
            "ddn l2",
            "DDNAttack",
            "loss.backward()",
            call(lambda s: zoo.DDNAttack(steps=s.steps), False),
        ),
    ]
