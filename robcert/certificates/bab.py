"""Certificates by branch and bound (`robcert.certificates.bab_search`): small ReLU networks are decided exactly.

First alpha-CROWN; what it leaves is split, until there is a proof, an adversarial example or no time. An example is
an input that the executed float32 network answers wrongly; it is handed on to whoever verifies examples.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from robcert.bounds.linear.backward import both_bounds
from robcert.bounds.linear.bounds import relax
from robcert.bounds.linear.coefficients import Rows
from robcert.bounds.linear.comparisons import compared
from robcert.bounds.linear.inputs import region
from robcert.bounds.linear.program import program
from robcert.bounds.rounding.logits import logits64
from robcert.certificates import Certificates, Search, certificate
from robcert.certificates.bab_search import decide, splittable
from robcert.certificates.effort import TimeLimit
from robcert.certificates.margins import ITERATIONS, improved, pairs
from robcert.certificates.trials import Trials, TrialsEvidence, certificates_of, clean, logits32
from robcert.errors import EvaluationError
from robcert.network.fold import copy_module
from robcert.types import BoundNorm, LoadedModel

SMALL = 4096
"""`best` tries branch and bound on networks with at most so many entries in their widest value."""


def decides(model: LoadedModel, norm: BoundNorm, search: Search) -> bool:
    """Return whether branch and bound may decide budgets within the time of the ladder: small ReLU networks."""
    try:
        network = program(model)
    except EvaluationError:
        return False
    return splittable(network) and network.widest <= SMALL and not search.largest


@certificate("bab", evidence=TrialsEvidence, cost=6, suits=decides)
def certify_bab(
    model: LoadedModel, x: Tensor, y: Tensor, norm: BoundNorm, search: Search | None = None
) -> Certificates:
    """Split ReLUs, and which entry of max pooling is the largest, until every margin is decided.

    Raises:
        EvaluationError: another nonlinearity; an op without a relaxation or a rounding bound.
    """
    began, search = time.monotonic(), search or Search()
    network, images = program(model), clean(model, x, y)
    if not splittable(network):
        raise EvaluationError(
            f"branch and bound splits ReLUs and max pooling, and {model.name} has other nonlinearities",
            "Use --method alpha-crown.",
        )
    whole = network.exact if images.refused else network
    network = compared(whole)
    evaluate = evaluator(model)
    inputs, labels = x.detach().cpu(), y.cpu()
    examples = torch.full(tuple(inputs.shape), float("nan"))
    limit = TimeLimit(len(x), search.seconds, search.spent)
    share = 0.5 if search.largest else 1.0  # a radius that takes all there is leaves nothing for a smaller one

    def probe(rows: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        lower, real = (torch.empty(len(rows), dtype=torch.float64) for _ in range(2))
        for k, image in enumerate(rows.tolist()):
            one = region(inputs[rows[k : k + 1]], eps[k : k + 1], norm, model.box)
            label, ends, broken = int(labels[image]), [], False
            until = time.process_time() + share * limit.left(image)
            with torch.no_grad():
                pooled = relax(whole, one, "crown")
                same = network is whole
                root = pooled if same else relax(network, one, "crown", fixed=pooled.intervals)
                specs = pairs(labels[image : image + 1], model.num_classes)
                bound, exact = both_bounds(root, network.logits, Rows(specs))
            bound[0, label] = exact[0, label] = float("inf")
            bound, exact = improved(root, specs, bound, exact, ITERATIONS)
            for j in bound[0].argsort().tolist():
                least = float(bound[0, j])
                left = until - time.process_time()
                if least <= 0 and left > 0 and not broken:
                    row = specs[0, j]

                    def value(points: Tensor, row: Tensor = row) -> Tensor:
                        return evaluate(points) @ row

                    def example(points: Tensor, label: int = label) -> Tensor:
                        return misclassified(model, points, label)

                    outcome = decide(
                        network,
                        one,
                        row,
                        0.0,
                        value,
                        example=example,
                        seconds=left,
                        clock=time.process_time,
                        root=root,
                    )
                    least = max(least, outcome.lower)
                    exact[0, j] = max(float(exact[0, j]), outcome.lower)
                    if outcome.point is not None:
                        broken = True
                        examples[image] = executed_input(model, outcome.point)
                ends.append(least)
            lower[k], real[k] = min(ends), exact.amin()
            limit.late[image] |= not broken and min(ends) <= 0 and time.process_time() > until
        return lower, real

    found = Trials(model, x, norm, images, probe, 1, limit).run(search)
    return certificates_of("bab", norm, images, found, began, search, limit, examples=examples)


def executed_input(model: LoadedModel, points: Tensor) -> Tensor:
    """Return points as the network reads them: float32, inside its box."""
    return points.float().clamp(*model.box)


def misclassified(model: LoadedModel, points: Tensor, label: int) -> Tensor:
    """Return at which points (m, *shape) the executed network answers wrongly whatever its order of sums: (m,) bool."""
    logits = logits32(model, executed_input(model, points))
    others = logits.clone()
    others[:, label] = -float("inf")
    return others.amax(1) - logits[:, label] > logits.abs().amax(1) * model.rounding


def evaluator(model: LoadedModel) -> Callable[[Tensor], Tensor]:
    """The network in float64: points (m, *shape) -> logits (m, classes), to look for examples only."""
    try:
        module = copy_module(model.module).cpu().double()
        module(torch.zeros(2, *model.input_shape, dtype=torch.float64))
    except Exception:  # a program whose types are fixed
        return lambda points: logits64(model, points)

    def evaluate(points: Tensor) -> Tensor:
        with torch.no_grad():
            return module(points.contiguous())

    return evaluate
