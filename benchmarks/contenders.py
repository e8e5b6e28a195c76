"""The attacks that are compared: robcert's own, through its engine, and those of the libraries beside it.

Every contender is called the way its documentation shows, with the same module, images and number of gradient
steps; early stopping is off wherever a library has a switch for it, so that every step costs the same.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from task import Counted, Task
from torch import Tensor

from robcert import __version__
from robcert.attacks import attacks
from robcert.engine.leg import Leg
from robcert.engine.witnesses import Witnesses
from robcert.types import Batch, Goal, Norm, Threat
from robcert.vision import torchvision

Family = Literal["pgd l2", "pgd linf", "cw l2"]
FAMILIES: tuple[Family, ...] = ("pgd l2", "pgd linf", "cw l2")


@dataclass(frozen=True)
class Setting:
    """How long an attack runs and how far it may go.

    Attributes:
        steps: gradient steps; for cw, of one value of c.
        searches: cw: values of c.
        eps: pgd: the budget; robcert's cw takes it as the scale of the search.
        timing: everything stays in its slot to the last step (nothing can be broken within eps).
    """

    steps: int
    searches: int
    eps: float
    timing: bool


Attack = Callable[[Counted, Task, Setting], Tensor]
"""Returns the adversarial images (n, *shape); a clean image where nothing was found."""


@dataclass(frozen=True)
class Contender:
    """One attack of one library.

    Attributes:
        library: as it is installed.
        version: as it is installed.
        family: with which bare attack it is compared.
        label: what exactly is run.
        differs: what it does otherwise than the others.
        timed: whether its steps are timed (another constant makes no step faster).
        judged: whether what it finds is measured.
    """

    library: str
    version: str
    family: Family
    label: str
    differs: str
    run: Attack
    timed: bool = True
    judged: bool = True


@dataclass(frozen=True)
class Missing:
    """A library that is not there, and why."""

    library: str
    reason: str


# -- robcert


def _robcert(name: str, norm: Norm, goal: Goal, counted: Counted, task: Task, setting: Setting) -> Tensor:
    options: dict[str, Any] = {"iterations": setting.steps}
    if name == "cw":
        options |= {"search_steps": setting.searches, "abort_early": False}
    n = len(task.x)
    images = Batch(task.x, task.y, torch.arange(n))
    witnesses = Witnesses(task.x)
    leg = Leg(
        task.loaded(counted),
        attacks.get(name)(**options),
        name,
        images,
        witnesses,
        Threat(norm, (setting.eps,)),
        goal,
        seed=0,
        entrants=list(range(n)),
        restarts=1,
        slots=n,
        search=None if task.search is None else counted.also(task.search),
    )
    leg.run()
    found = task.x.clone()
    for position, example in witnesses.x.items():
        found[position] = example
    return found


def _decide(name: str, norm: Norm) -> Attack:
    return lambda counted, task, setting: _robcert(name, norm, "decide", counted, task, setting)


def _cw(counted: Counted, task: Task, setting: Setting) -> Tensor:
    goal: Goal = "decide" if setting.timing else "minimize"
    return _robcert("cw", "l2", goal, counted, task, setting)


_OWN = (
    "through the engine: keeps the closest misclassified point of every image, watches for zero and "
    "non-finite gradients, has per-image counters and random streams, verifies every result in float32 and "
    "float64"
)


_WIDE = 2.0
"""eps of the timing of cw, minimize: most images break within it."""


def own() -> list[Contender]:
    """robcert's attacks."""
    return [
        Contender("robcert", __version__, "pgd l2", "pgd", _OWN, _decide("pgd", "l2")),
        Contender("robcert", __version__, "pgd linf", "pgd", _OWN, _decide("pgd", "linf")),
        Contender("robcert", __version__, "cw l2", "cw", _OWN + "; first c and rate per image", _cw),
        Contender(
            "robcert",
            __version__,
            "cw l2",
            "cw, minimize",
            "as cw, on images that break: timed with the writes of better points and the final bisection",
            lambda counted, task, setting: _robcert("cw", "l2", "minimize", counted, task, replace(setting, eps=_WIDE)),
            judged=False,
        ),
    ]


# -- foolbox


def _foolbox() -> list[Contender]:
    foolbox: Any = importlib.import_module("foolbox")
    version = importlib.metadata.version("foolbox")

    def call(make: Callable[[Setting], Any], budget: bool) -> Attack:
        def run(counted: Counted, task: Task, setting: Setting) -> Tensor:
            model = foolbox.PyTorchModel(counted, bounds=(0, 1), device="cpu")
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
    ]


# -- torchattacks


def _torchattacks() -> list[Contender]:
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
    ]


# -- adv-lib


def _adv_lib() -> list[Contender]:
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
    ]


_PEERS: dict[str, Callable[[], list[Contender]]] = {
    "foolbox": _foolbox,
    "torchattacks": _torchattacks,
    "adv-lib": _adv_lib,
}


def peers() -> tuple[list[Contender], list[Missing]]:
    """The attacks of every library that is installed, and the libraries that are not, with the reason."""
    there: list[Contender] = []
    missing: list[Missing] = []
    for library, build in _PEERS.items():
        try:
            there += build()
        except Exception as error:  # an import can fail in many ways, and each is worth naming
            missing.append(Missing(library, f"{type(error).__name__}: {error}"))
    return there, missing


def computes_weight_gradients(contender: Contender, task: Task) -> bool:
    """Whether one step leaves gradients on weights that require them (robcert freezes what it loads)."""
    few = replace(task, x=task.x[:8], y=task.y[:8])
    counted = few.counted(unfrozen=True)
    contender.run(counted, few, Setting(steps=2, searches=1, eps=1e-3, timing=True))
    return any(p.grad is not None for p in counted.parameters())
