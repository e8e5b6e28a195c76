"""The protocol of attacks: a state and a step. The engine owns the loop.

An attack never sees the model: it asks the oracle, which counts, watches for failures and remembers the closest
misclassified point of every image. An attack never decides success either: the engine's verifier does.

A step must be capture-safe: no ``.item()``, no Python branch on tensor values, no growing buffers, no randomness
except `Problem.rng`. What happens rarely goes into ``phase``, where host code is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from robcert.criteria import Criterion
from robcert.criteria.misclassified import MISCLASSIFIED
from robcert.math.norms import per_image
from robcert.math.rng import SampleRng
from robcert.threats.kind import Norm
from robcert.types import Goal, Threat, ThreatNorm

Objective = Callable[[Tensor, Tensor], Tensor]
"""Maps logits (n, classes) and labels (n,) to a value an image (n,), to be maximised."""

NEAR = 1.05
"""So many times the budget is a near miss, for an image that is to be decided."""


@dataclass(frozen=True)
class Cost:
    """Forwards and backwards of one step, an image."""

    forwards: int
    backwards: int


@dataclass(frozen=True)
class Problem:
    """The images in the slots of a batch. The engine refills slots in place, so the tensors stay the same objects.

    Attributes:
        x: (n, *shape) float32, the clean images, inside the box.
        y: (n,) int64, the labels.
        index: (n,) int64, the index of each image in its data set.
        restart: (n,) int64, which restart this is; 0 starts at the clean image where an attack can.
        best: (n,) float32, distance of the closest success found so far by anyone (inf: none).
        target_classes: (n, classes - 1) int64, the wrong classes of the clean image, the most likely first; filled for
            attacks that say ``targeted``, else 0.
        threat: norm, budgets and box; a budget above the diameter of the box is that diameter here, where squares
            cannot overflow.
        goal: "decide" (is there an example within the budget?) or "minimize" (how close is the closest?).
        seed: the seed of the run.
        criterion: what counts as success.
    """

    x: Tensor
    y: Tensor
    index: Tensor
    restart: Tensor
    best: Tensor
    target_classes: Tensor
    threat: Threat
    goal: Goal
    seed: int
    criterion: Criterion = MISCLASSIFIED

    def __post_init__(self) -> None:
        widest = self.threat.diameter(self.shape)
        if self.threat.largest > widest:
            eps = tuple(min(value, widest) for value in self.threat.eps)
            object.__setattr__(self, "threat", replace(self.threat, eps=eps))

    @property
    def rng(self) -> SampleRng:
        """One random stream an image, which depends on (seed, index, restart) alone."""
        return SampleRng(self.seed, self.index, self.restart)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image."""
        return tuple(self.x.shape[1:])

    @property
    def norm(self) -> Norm:
        """The norm of the threat; an attack whose `Attack.norms` are norms has one."""
        assert isinstance(self.threat.kind, Norm)
        return self.threat.kind

    def project(self, delta: Tensor, eps: Tensor) -> Tensor:
        """Return perturbations (n, *shape) within balls of radii ``eps`` (n,) that keep the images in the box."""
        return self.norm.project_in_box(delta, self.x, eps, self.threat.box)

    def random_start(self, eps: Tensor) -> Tensor:
        """Return random perturbations (n, *shape) within balls of radii ``eps`` (n,), and in the box."""
        unit = self.norm.sample(self.rng, self.shape)
        return self.project(unit * per_image(eps, unit), eps)


@dataclass(frozen=True)
class Evaluation:
    """The result of one forward and one backward.

    Attributes:
        logits: (n, classes).
        value: (n,), of the objective.
        gradient: (n, *shape).
        margin_error: (n,), by how much the margin may be off: 0, but for rows that were searched in low precision. A
            point fools for sure where its margin is above that.
    """

    logits: Tensor
    value: Tensor
    gradient: Tensor
    margin_error: Tensor


@dataclass(frozen=True)
class Jacobian:
    """The result of one forward and k backwards: logits (n, classes), gradients (n, k, *shape)."""

    logits: Tensor
    gradients: Tensor


@dataclass(frozen=True)
class Curvature:
    """One forward and two backwards: value (n,), gradient g (n, *shape), and product H v(g) (n, *shape)."""

    value: Tensor
    gradient: Tensor
    product: Tensor


class Oracle(Protocol):
    """The only way to the model.

    Attributes:
        on_host: whether a step may look at a mask, to leave out what no image needs. Only a CPU may: on an accelerator
            the host would wait for the device, and a captured step has no branch.
    """

    on_host: bool

    def value_and_grad(self, objective: Objective, x: Tensor) -> Evaluation:
        """Take one forward and one backward at ``x`` (n, *shape) inside the box; every row belongs to its slot."""
        ...

    def logits(self, x: Tensor) -> Tensor:
        """Return the logits (n, classes) of one forward at ``x``."""
        ...

    def gradients(self, rows: Tensor, x: Tensor) -> Jacobian:
        """Return rows of the Jacobian at ``x``: the gradients of the logits ``rows`` (n, k) int64, k backwards."""
        ...

    def hvp(self, objective: Objective, x: Tensor, direction: Callable[[Tensor], Tensor]) -> Curvature:
        """Return the Hessian of the objective at ``x`` times a direction that is chosen by the gradient there.

        With ``direction`` the gradient of a function of g, it is the gradient by x of that function. The point is not
        noted as a candidate: it is the one that another call has evaluated.
        """
        ...


class State(Protocol):
    """The memory of an attack between two steps: a dataclass of tensors, batch first.

    Attributes:
        done: (n,) bool, True where the attack has used its budget for that image.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]
    done: Tensor


S = TypeVar("S", bound=State)


class Attack(Protocol):
    """A frozen dataclass of options with three functions.

    Attributes:
        norms: the kinds of threats it can work in; `robcert.threats.kind.NORMS` is every norm there is.
        paper: where it comes from.
        cost: of one step.
        iterations: its budget; for an attack that searches over a constant, of one search step.
        targeted (optional): whether it wants `Problem.target_classes`, at one more forward an image.
        climb_near_misses (optional): False where its near misses stay what they are (`robcert.search.near_miss_pgd`).
    """

    norms: ClassVar[Set[ThreatNorm]]
    paper: ClassVar[str]
    cost: ClassVar[Cost]

    @property
    def iterations(self) -> int: ...

    @property
    def period(self) -> int:
        """Steps between two calls of ``phase``; every stage of the attack must be a multiple of it."""
        ...

    def init(self, problem: Problem) -> Any:
        """Return the first state of every slot. Rows depend on their own image only."""
        ...

    def step(self, oracle: Oracle, problem: Problem, state: Any) -> Any:
        """Take one iteration of every slot."""
        ...

    def phase(self, problem: Problem, state: Any) -> Any:
        """Do what happens every ``period`` steps: stages end, ``done`` is set."""
        ...

    def proposal(self, problem: Problem, state: Any) -> Tensor:
        """Return the point (n, *shape) that the next step would evaluate; the engine tries it before it lets go."""
        ...


@runtime_checkable
class Refining(Protocol):
    """An attack that may be searched in low precision, up to where it refines what it has."""

    def needs_float32(self, problem: Problem, state: Any, steps: int = 1) -> Tensor:
        """Return (n,) bool: one of the next ``steps`` of the image needs the precision of the network itself."""
        ...


def among_the_last(iteration: Tensor, steps: int, iterations: int) -> Tensor:
    """Return (n,) bool: one of the next steps is in the last twentieth of all iterations, at least their last one.

    That is what most attacks leave to the precision of the network itself, where a step costs two to three times as
    much as in bfloat16.
    """
    return iteration + steps > iterations - max(1, iterations // 20)


def select(mask: Tensor, new: S, old: S) -> S:
    """Return the state that has the rows of ``new`` where ``mask`` (n,) is True and those of ``old`` elsewhere."""
    chosen = {
        f.name: torch.where(per_image(mask, getattr(old, f.name)), getattr(new, f.name), getattr(old, f.name))
        for f in fields(old)
    }
    return replace(old, **chosen)


def steps_between_synchronisations(iterations: int, most: int = 10) -> int:
    """Return the largest divisor of the budget that is at most ``most`` and at most a tenth of it.

    An image that is decided leaves at a synchronisation, so a short attack synchronises more often.
    """
    return next(d for d in range(max(1, min(most, iterations // 10)), 0, -1) if iterations % d == 0)


class _Counted(Protocol):
    @property
    def iterations(self) -> int: ...


class Periodic:
    """An attack of the usual period."""

    @property
    def period(self: _Counted) -> int:
        """A tenth of the iterations, and at most ten, between two synchronisations."""
        return steps_between_synchronisations(self.iterations)


class Perturbing(Periodic):
    """An attack that moves a perturbation, the ``delta`` of its state, until all iterations are taken."""

    def phase(self: _Counted, problem: Problem, state: Any) -> Any:
        """Done after all iterations."""
        return replace(state, done=state.iteration >= self.iterations)

    def proposal(self, problem: Problem, state: Any) -> Tensor:
        """Return the point that the last step led to."""
        return problem.x + state.delta
