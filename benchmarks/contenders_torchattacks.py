"""torchattacks."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable
from typing import Any

from contender import Attack, Contender, Setting
from task import Counted, Task
from torch import Tensor


def torchattacks_attacks() -> list[Contender]:
    torchattacks: Any = importlib.import_module("torchattacks")
    version = importlib.metadata.version("torchattacks")

    def call(make: Callable[[Counted, Setting], Any]) -> Attack:
        def run(counted: Counted, task: Task, setting: Setting) -> Tensor:
            return make(counted, setting)(task.x, task.y)

        return run

    last = "returns the last point, not the best; averages the cross-entropy over the batch"
    no_search = "one c for all, no search (all its steps at c = 1); Adam of torch.optim; loss.backward()"
    return [
        Contender(
            "torchattacks",
            version,
            "pgd l2",
            "PGDL2",
            last,
            call(lambda m, s: torchattacks.PGDL2(m, eps=s.eps, alpha=s.eps / 5, steps=s.steps)),
        ),
        Contender(
            "torchattacks",
            version,
            "pgd linf",
            "PGD",
            last,
            call(lambda m, s: torchattacks.PGD(m, eps=s.eps, alpha=s.eps / 4, steps=s.steps)),
        ),
        Contender(
            "torchattacks",
            version,
            "cw l2",
            "CW, defaults",
            no_search + "; its early stop has no switch",
            call(lambda m, s: torchattacks.CW(m, steps=s.steps * s.searches)),
        ),
        Contender(
            "torchattacks",
            version,
            "cw l2",
            "CW, c = 1, rate 0.05",
            no_search + "; its early stop has no switch",
            call(lambda m, s: torchattacks.CW(m, lr=0.05, steps=s.steps * s.searches)),
            timed=False,
        ),
        Contender(
            "torchattacks",
            version,
            "apgd linf",
            "APGD, DLR",
            "stops at images that it broke",
            call(lambda m, s: torchattacks.APGD(m, norm="Linf", eps=s.eps, steps=s.steps, loss="dlr")),
        ),
    ]
