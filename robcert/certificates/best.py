"""The whole ladder, from cheap to dear: an image goes on until its budgets are decided, and keeps its best radius."""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from torch import Tensor

from robcert.bounds.linear.program import program
from robcert.certificates import Certificates, Search, certificate, certificates
from robcert.certificates.bab_search import splittable
from robcert.certificates.search import OUT_OF_TIME
from robcert.errors import EvaluationError
from robcert.types import BoundNorm, LoadedModel

LADDER = ("gap", "ibp", "crown-ibp", "crown", "alpha-crown", "bab")
"""Deterministic methods by cost. Smoothing speaks of another classifier and is never among them."""

SMALL = 4096
"""Branch and bound is tried on networks with at most so many entries in their widest value."""


@certificate("best")
def certify_best(
    model: LoadedModel, x: Tensor, y: Tensor, norm: BoundNorm, search: Search | None = None
) -> Certificates:
    """The largest radius of all deterministic certificates.

    A method sees only images that those before it left undecided: not certified at the largest budget, or, where the
    largest radius is asked for, all that are right. ``search.seconds`` is for the whole ladder.

    Raises:
        EvaluationError: no method supports the network.
    """
    began, search = time.monotonic(), search or Search()
    methods = [name for name in LADDER if name != "bab" or _branches(model, search)]
    best: Certificates | None = None
    alone: dict[str, Certificates] = {}
    gained: dict[str, tuple[int, ...]] = {}
    refused: list[EvaluationError] = []
    late = 0
    examples: Tensor | None = None
    for name in methods:
        rows = _undecided(best, y, search)
        if best is not None and not len(rows):
            break
        left = None if search.seconds is None else search.seconds * len(x) - (time.monotonic() - began)
        if left is not None and left <= 0:
            late = max(late, len(rows))
            break
        inner = replace(
            search,
            seconds=None if left is None else left / max(1, len(rows)),
            above=None if search.above is None else search.above[rows],
            below=None if best is None else best.radius[rows],
        )
        try:
            found = certificates.get(name)(model, x[rows], y[rows], norm, inner)
        except EvaluationError as error:
            refused.append(error)
            continue
        alone[name] = found
        late = max(late, int(found.constants.get(OUT_OF_TIME, 0)))
        if found.examples is not None:
            examples = torch.full(tuple(x.shape), float("nan"))
            examples[rows] = found.examples
        before = _certified(best, search)
        best = _larger(best, found, rows, name, len(x))
        gained[name] = tuple(now - old for now, old in zip(_certified(best, search), before, strict=True))
    if best is None:
        raise refused[0]
    seconds = time.monotonic() - began
    best = replace(best, constants={**best.constants, OUT_OF_TIME: float(late)})
    return replace(best, method="best", alone=alone, gained=gained, examples=examples, seconds=seconds)


def _certified(best: Certificates | None, search: Search) -> list[int]:
    return [0 if best is None else int((best.radius > eps).sum()) for eps in search.eps]


def _branches(model: LoadedModel, search: Search) -> bool:
    try:
        network = program(model)
    except EvaluationError:
        return False
    return splittable(network) and network.widest <= SMALL and not search.largest


def _undecided(best: Certificates | None, y: Tensor, search: Search) -> Tensor:
    if best is None:
        return torch.arange(len(y))
    going = best.prediction == y.cpu()
    if not search.largest:
        going &= best.radius <= (search.eps[-1] if search.eps else 0.0)
    return going.nonzero().flatten()


def _larger(best: Certificates | None, found: Certificates, rows: Tensor, name: str, n: int) -> Certificates:
    """Put the radii of some images beside what is known of all of them."""
    if best is None:
        kinds = tuple(f"{name}" if r > 0 else "" for r in found.radius_real.tolist())
        return replace(found, binding=kinds)
    radius, real, kinds = best.radius.clone(), best.radius_real.clone(), list(best.binding)
    for k, row in enumerate(rows.tolist()):
        if float(found.radius[k]) > float(radius[row]) or (not kinds[row] and float(found.radius_real[k]) > 0):
            kinds[row] = name
    radius[rows] = torch.maximum(radius[rows], found.radius)
    real[rows] = torch.maximum(real[rows], found.radius_real)
    constants = {**found.constants, **best.constants}
    return replace(best, radius=radius, radius_real=real, binding=tuple(kinds), constants=constants)
