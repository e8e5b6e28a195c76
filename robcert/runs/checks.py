"""Signs that an attack failed rather than that the model held, which no attack sees by itself.

Carlini et al. 2019, section 4: an unbounded attack must reach 0 %; a network must answer the same question twice the
same way. What attacks say of each other is in `robcert.runs.weaker_wins`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from robcert.accel.stepper import Networks, stepper_for
from robcert.attacks.pgd import PGD
from robcert.bracket import Bracket
from robcert.criteria.misclassified import margin
from robcert.network.batching import logits_of
from robcert.runs.record import LegRecord, SpentRecord
from robcert.runs.summary import attacked_correct, leg_interval, scalar_or_list
from robcert.search.problem import SearchProblem, Work
from robcert.search.stage import Stage
from robcert.threats.kind import NORMS
from robcert.types import Dataset, LoadedModel, Threat

Notes = dict[str, list[int]]

SAMPLE = 16
"""So many open images are attacked without a budget."""
STEPS = 50
_TINY = 1e-3
"""Logits that spread less give a softmax that is uniform to within this."""


@torch.no_grad()
def check_answers(model: LoadedModel, data: Dataset, slots: int, logits: Tensor) -> Notes:
    """Return notes on the answers to the clean images, (n, classes), by the position of the images.

    - ``random``: two identical calls differ by more than the stated rounding bound;
    - ``probabilities``: every row lies in [0, 1] and sums to one: a softmax, not logits;
    - ``tiny``: all logits within a thousandth of each other, so that the softmax is uniform;
    - ``saturated``: the gradient of the cross-entropy by the logits is exactly 0 in float32.
    """
    if not len(data):
        return {}
    again = logits_of(model.module, data.x, slots).cpu()
    y = data.y.cpu()
    size = logits.abs().amax(dim=1)
    random = (logits - again).abs().amax(dim=1) > model.rounding * size
    row = (logits >= 0).all(dim=1) & (logits <= 1).all(dim=1) & ((logits.double().sum(dim=1) - 1).abs() < 1e-4)
    tiny = logits.amax(dim=1) - logits.amin(dim=1) < _TINY
    weights = logits.softmax(dim=1).scatter_add(1, y.view(-1, 1), -torch.ones(len(y), 1))
    saturated = (weights == 0).all(dim=1) & (margin(logits, y) < 0)
    found = {"random": random, "tiny": tiny & ~row, "saturated": saturated}
    if bool(row.all()):
        found["probabilities"] = row
    return {name: mask.nonzero().flatten().tolist() for name, mask in found.items()}


@dataclass(frozen=True)
class Unbounded:
    """The outcome of an attack without a budget: notes, and a leg where it broke images within the budget by the way.

    ``spent`` is what it took where it is no leg.
    """

    notes: Notes = field(default_factory=dict)
    leg: LegRecord | None = None
    spent: SpentRecord = field(default_factory=SpentRecord)


def check_unbounded(search: SearchProblem, slots: int) -> Unbounded:
    """Attack up to `SAMPLE` open images, spread over the run, with the whole box as the budget (PGD on the margin).

    Every point of the box may be used, so whatever stands is either a network that gives one answer everywhere, or an
    attack that has nothing to follow. ``unbounded``: the positions that stand. Without a
    gradient or a norm nothing is tried.
    """
    model, images, threat, bracket = search.model, search.images, search.threat, search.bracket
    standing = bracket.standing(threat.largest) & ~bracket.certified(threat.largest) & bracket.distance.isinf()
    rows = standing.nonzero().flatten()
    rows = rows[torch.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).long()].tolist() if len(rows) else []
    if not rows or model.no_gradient or threat.norm not in NORMS:
        return Unbounded()
    free = Threat(threat.norm, (threat.diameter(tuple(images.x.shape[1:])),), threat.box)
    own = Bracket(images.index)
    stepper = stepper_for(PGD(iterations=STEPS, objective="margin"), Networks(model.module), images.x.device)
    stage = Stage(replace(search, bracket=own, threat=free, goal="decide"), Work("pgd", rows, slots=slots), stepper)
    stage.run()
    notes = {"unbounded": [row for row in rows if not bool(own.distance[row].isfinite())], "unbounded_tried": rows}
    before = attacked_correct(bracket, threat)
    for row in rows:
        found = own.examples[row]
        if found is not None and found.distance <= threat.largest:
            bracket.update(row, found)
    after = attacked_correct(bracket, threat)
    forwards, backwards, seconds = stage.spent.forwards, stage.spent.backwards, round(stage.spent.seconds, 3)
    if before == after:
        return Unbounded(notes, spent=SpentRecord(forwards=forwards, backwards=backwards, seconds=seconds))
    record = LegRecord(
        attack="pgd",
        iterations=STEPS,
        restarts=1,
        entered=len(rows),
        attacked_correct=scalar_or_list(after),
        newly_broken=scalar_or_list([a - b for a, b in zip(before, after, strict=True)]),
        interval=leg_interval(after, len(images)),
        forwards=forwards,
        backwards=backwards,
        seconds=seconds,
        beside="an attack with the whole box as its budget",
    )
    return Unbounded(notes, record)
