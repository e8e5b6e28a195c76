"""The beginning of a page: a table with the answer, and a sentence for each model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from robcert.reports.page.numbers import at, count, number
from robcert.reports.page.parts import Cell, Table, cells
from robcert.reports.page.sources import Run, Sources
from robcert.runs.record import ModelRecord
from robcert.runs.summary import as_list
from robcert.sensitivity.gradients import STATISTICS
from robcert.verification.answer import RESULTS

_HEAD = ("model", "threat", "natural", "attacked", "certified", "open", "verdict")
_TONES = {"flat": "good", "settled": "good", "falling": "bad", "disputed": "bad", "undecided": "unsure"}
_SAID = {"falling": "still falling"}
_MOST = 8
"""Sentences; the table has what they say of further models."""


def summary(sources: Sources) -> tuple[list[Table], list[str]]:
    """Return the tables that a page begins with, one for each kind of source, and the sentences under them."""
    tables = [*_accuracies(sources), *_norms(sources), *_jacobians(sources), *_answers(sources)]
    sentences = [sentence for run in sources.runs for model in run.record.models for sentence in _bracket(run, model)]
    for _, record in sources.certificates:
        for model in record.models:
            share = f"{100 * model.certified_correct[-1] / max(model.n, 1):.1f}%"
            of = f"{record.threat.norm} {record.threat.eps[-1]:g}"
            if model.confidence is None:
                sentences.append(f"{model.name}: {share} of {model.n} images are certified at {of} by {model.method}.")
            else:
                sentences.append(
                    f"{model.name}: {share} of {model.n} images are certified at {of}, each with confidence "
                    f"{model.confidence:g}, for the classifier under noise, which is not the network."
                )
    if sources.runs or sources.certificates:
        sentences = sentences[:_MOST]
        sentences.append(
            "Natural: right without an attack. Attacked: not broken so far. Certified: proven. Open: neither of both."
        )
    return tables, sentences


def _bracket(run: Run, model: ModelRecord) -> list[str]:
    """What is known at the largest budget, in a sentence."""
    if not model.n:
        return []
    certified, left = as_list(model.verdicts.certified)[-1], as_list(model.verdicts.open)[-1]
    threat = run.record.threat
    low, high = 100 * certified / model.n, 100 * (certified + left) / model.n
    ends = f"between {low:.1f}% and {high:.1f}%" if left else f"{low:.1f}%"
    return [f"{model.name}: the true accuracy on these {model.n} images at {threat.norm} {threat.eps[-1]:g} is {ends}."]


def _accuracies(sources: Sources) -> list[Table]:
    rows = [row for run in sources.runs for m in range(len(run.record.models)) for row in _attacked(run, m)]
    for name, record in sources.certificates:
        for m, model in enumerate(record.models):
            for k, eps in enumerate(record.threat.eps):
                proven = model.certified_correct[k]
                rows.append(
                    cells(
                        model.name,
                        f"{record.threat.norm} {eps:g}",
                        count(model.natural_correct, model.n, f"{name}: models/{m}/natural_correct"),
                        "not attacked",
                        count(proven, model.n, f"{name}: models/{m}/certified_correct/{k}"),
                        count(model.natural_correct - proven, model.n, ""),
                        model.method,
                    )
                )
    return [Table("Accuracy at each budget: images, and their share", _HEAD, rows)] if rows else []


def _attacked(run: Run, m: int) -> list[list[Cell]]:
    model, threat = run.record.models[m], run.record.threat
    several, key, rows = len(threat.eps) > 1, f"{run.name}: models/{m}", []
    for k, eps in enumerate(threat.eps):
        low, left = as_list(model.verdicts.certified)[k], as_list(model.verdicts.open)[k]
        rows.append(
            cells(
                model.name,
                f"{threat.norm} {eps:g}",
                count(model.natural_correct, model.n, f"{key}/natural_correct"),
                count(low + left, model.n, ""),
                count(low, model.n, at(f"{key}/verdicts/certified", k, several)),
                count(left, model.n, at(f"{key}/verdicts/open", k, several)),
                _verdict(model, eps, threat.eps[-1]),
            )
        )
    return rows


def _verdict(model: ModelRecord, eps: float, largest: float) -> Cell:
    """Whether more iterations still help, at the budget for which it was asked."""
    if model.plateau is not None:
        verdict, asked = model.plateau.verdict, model.plateau.eps
    elif model.plan_end is not None:
        verdict, asked = model.plan_end.verdict, largest
    else:
        return Cell("no verdict", tone="unsure")
    return Cell(_SAID.get(verdict, verdict), tone=_TONES[verdict]) if eps == asked else Cell("")


def _norms(sources: Sources) -> list[Table]:
    rows = [
        cells(
            model.name,
            *(
                number(getattr(model.lipschitz, norm), f"{name}: models/{m}/lipschitz/{norm}")
                for norm in ("l2", "linf", "l1")
            ),
        )
        for name, record in sources.norms
        for m, model in enumerate(record.models)
    ]
    caption = "Proven bounds of the Lipschitz constants of the whole network"
    return [Table(caption, ("model", "l2", "l-inf", "l1"), rows)] if rows else []


def _jacobians(sources: Sources) -> list[Table]:
    shown = ("spectral", "loss-l2")
    rows = [
        cells(
            model.name,
            *(
                number(getattr(model.statistics[name], end), f"{source}: models/{m}/statistics/{name}/{end}")
                for name in shown
                for end in ("mean", "max")
            ),
        )
        for source, record in sources.jacobians
        for m, model in enumerate(record.models)
    ]
    head = ("model", *(f"{end} {STATISTICS[name]}" for name in shown for end in ("mean", "largest")))
    return [Table("Gradient norms over the images", head, rows)] if rows else []


def _answers(sources: Sources) -> list[Table]:
    rows: list[Sequence[Cell]] = []
    for _, record in sources.answers:
        for model in dict.fromkeys(one.model for one in record.answers):
            counts = Counter(one.result for one in record.answers if one.model == model)
            rows.append(cells(model, *(str(counts[result]) for result in RESULTS)))
    return [Table("Properties by answer", ("model", *RESULTS), rows)] if rows else []
