"""The whole ladder, from cheap to dear: an image goes on until its budgets are decided, and keeps its best radius."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from robcert.bracket import Evidence
from robcert.certificates import Certificates, Search, certificate, certificates, join
from robcert.certificates.effort import Effort
from robcert.certificates.trials import undecided
from robcert.errors import EvaluationError
from robcert.progress import working
from robcert.types import BoundNorm, LoadedModel


@dataclass(frozen=True)
class Step:
    """A method of the ladder.

    Attributes:
        found: its certificates of the images that were left for it.
        first: how many images it was the first to certify, at each budget.
    """

    found: Certificates
    first: tuple[int, ...]


def join_steps(parts: list[dict[str, Step]]) -> dict[str, Step]:
    """Return the steps for all images from those for parts of them; not every part needs every step."""
    found: dict[str, Step] = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        own = [part[name] for part in parts if name in part]
        first = tuple(map(sum, zip(*(step.first for step in own), strict=True)))
        found[name] = Step(join([step.found for step in own]), first)
    return found


@dataclass(frozen=True)
class LadderEvidence(Evidence):
    """The methods that took part.

    Attributes:
        steps: the methods by name, in the order of their cost.
    """

    steps: dict[str, Step] = field(default_factory=dict[str, Step], metadata={"constant": False, "join": join_steps})

    @property
    def constants(self) -> dict[str, float]:
        """Those of all steps; of a name that several have, that of the first."""
        found: dict[str, float] = {}
        for step in reversed(self.steps.values()):
            found |= step.found.constants
        return {**found, **super().constants}


def ladder(model: LoadedModel, norm: BoundNorm, search: Search) -> list[str]:
    """Return the methods that suit a network, a norm and what is asked, cheap ones first."""
    found = [(one.cost, name) for name, one in certificates.items() if one.cost is not None]
    return [name for _, name in sorted(found) if certificates.get(name).suits(model, norm, search)]


@certificate("best", evidence=LadderEvidence)
def certify_best(
    model: LoadedModel, x: Tensor, y: Tensor, norm: BoundNorm, search: Search | None = None
) -> Certificates:
    """The largest radius of all deterministic certificates.

    A method sees only images that those before it left undecided: not certified at the largest budget, or, where the
    largest radius is asked for, all that are right. ``search.seconds`` is for the whole ladder on one image.

    Raises:
        EvaluationError: no method supports the network.
    """
    began, search = time.monotonic(), search or Search()
    best: Certificates | None = None
    steps: dict[str, Step] = {}
    refused: list[EvaluationError] = []
    effort = Effort.none(len(x))
    examples: Tensor | None = None
    methods = ladder(model, norm, search)
    for k, name in enumerate(methods, 1):
        rows = _undecided(best, y, search)
        if best is not None and not len(rows):
            break
        inner = replace(
            search,
            spent=effort.seconds[rows],
            above=None if search.above is None else search.above[rows],
            below=None if best is None else best.radius[rows],
        )
        try:
            with working(f"method {k} of {len(methods)}, {name}: {len(rows)} images undecided"):
                found = certificates.get(name)(model, x[rows], y[rows], norm, inner)
        except EvaluationError as error:
            refused.append(error)
            continue
        if found.effort is not None:
            effort = effort.put(rows, found.effort)
        if found.examples is not None:
            examples = torch.full(tuple(x.shape), float("nan"))
            examples[rows] = found.examples
        before = _certified(best, search)
        best = _larger(best, found, rows, name, len(x))
        gained = tuple(now - old for now, old in zip(_certified(best, search), before, strict=True))
        steps[name] = Step(found, gained)
    if best is None:
        raise refused[0]
    seconds = time.monotonic() - began
    late = effort.late & undecided(best.prediction == y.cpu(), best.radius, examples, search)
    return replace(
        best,
        method="best",
        evidence=LadderEvidence(steps),
        examples=examples,
        seconds=seconds,
        effort=replace(effort, late=late),
    )


def _certified(best: Certificates | None, search: Search) -> list[int]:
    return [0 if best is None else int((best.radius > eps).sum()) for eps in search.eps]


def _undecided(best: Certificates | None, y: Tensor, search: Search) -> Tensor:
    if best is None:
        return torch.arange(len(y))
    return undecided(best.prediction == y.cpu(), best.radius, None, search).nonzero().flatten()


def _larger(best: Certificates | None, found: Certificates, rows: Tensor, name: str, n: int) -> Certificates:
    """Put the radii of some images beside what is known of all of them."""
    if best is None:
        kinds = tuple(name if r > 0 else "" for r in found.radius_real.tolist())
        return replace(found, binding=kinds)
    radius, real, kinds = best.radius.clone(), best.radius_real.clone(), list(best.binding)
    for k, row in enumerate(rows.tolist()):
        if float(found.radius[k]) > float(radius[row]) or (not kinds[row] and float(found.radius_real[k]) > 0):
            kinds[row] = name
    radius[rows] = torch.maximum(radius[rows], found.radius)
    real[rows] = torch.maximum(real[rows], found.radius_real)
    return replace(best, radius=radius, radius_real=real, binding=tuple(kinds))
