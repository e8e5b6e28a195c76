"""adversarial-library (adv-lib)."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
import types
from typing import Any

from contender import Attack, Contender

from robcert.vision import torchvision


def adv_lib_attacks() -> list[Contender]:
    if "visdom" not in sys.modules and importlib.util.find_spec("visdom") is None:
        # adv_lib imports visdom at the top, for plots that are off here; the real one brings a web server.
        sys.modules["visdom"] = types.ModuleType("visdom")
    torchvision()  # adv_lib imports it too, and would meet the breakage that robcert.vision mends
    adv: Any = importlib.import_module("adv_lib.attacks")
    version = importlib.metadata.version("adv-lib")

    def cw(**extra: float) -> Attack:
        return lambda counted, task, s: adv.carlini_wagner_l2(
            counted,
            task.x,
            task.y,
            binary_search_steps=s.searches,
            max_iterations=s.steps,
            abort_early=False,
            **extra,
        )

    return [
        Contender(
            "adv-lib",
            version,
            "pgd l2",
            "apgd(norm=2)",
            "adv-lib has no l2 PGD; this is its Auto-PGD (DLR loss, step halved at checkpoints)",
            lambda m, t, s: adv.apgd(m, t.x, t.y, eps=s.eps, norm=2, n_iter=s.steps),
        ),
        Contender(
            "adv-lib",
            version,
            "pgd linf",
            "pgd_linf",
            "keeps the last misclassified point, whatever its distance",
            lambda m, t, s: adv.pgd_linf(m, t.x, t.y, ε=s.eps, steps=s.steps),
        ),
        Contender("adv-lib", version, "cw l2", "carlini_wagner_l2, defaults", "c searched per image", cw()),
        Contender(
            "adv-lib",
            version,
            "cw l2",
            "carlini_wagner_l2, c = 1, rate 0.05",
            "c searched per image",
            cw(initial_const=1.0, learning_rate=0.05),
            timed=False,
        ),
        Contender(
            "adv-lib",
            version,
            "apgd linf",
            "apgd, DLR",
            "",
            lambda m, t, s: adv.apgd(m, t.x, t.y, eps=s.eps, norm=float("inf"), n_iter=s.steps),
        ),
        Contender(
            "adv-lib",
            version,
            "ddn l2",
            "ddn",
            "rounds to 256 levels by default; off here",
            lambda m, t, s: adv.ddn(m, t.x, t.y, steps=s.steps, levels=None),
        ),
    ]
