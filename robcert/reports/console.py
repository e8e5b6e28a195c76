"""Tables for a person, like tables 1 and 2 of paper A: one column a model, a row a leg."""

from __future__ import annotations

import io
import itertools
import os
import shutil
import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from robcert.math.binomial import interval
from robcert.reports import renderer
from robcert.reports.printed import columns
from robcert.runs.out_of_time import time_line
from robcert.runs.plan import LegPlan, short
from robcert.runs.record import DeployedRecord, LegRecord, ModelRecord, PlanEndRecord, PlateauRecord, RunRecord
from robcert.runs.summary import as_list
from robcert.text import brief


@renderer("console", RunRecord)
def render(record: RunRecord) -> str:
    """The table and, under it, plateau, distances, warnings, cost and where the run is stored."""
    color = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    width = columns() if sys.stdout.isatty() else max(80, shutil.get_terminal_size().columns)
    text = io.StringIO()
    console = Console(file=text, force_terminal=color, no_color=not color, width=width, highlight=False)
    for k, eps in enumerate(record.threat.eps):
        table = _table(record, k, eps)
        needed = console.measure(table, options=console.options.update(width=10_000)).maximum
        if sys.stdout.isatty():
            table = table if needed <= width else _table(record, k, eps, intervals=False)
        else:
            console.width = max(width, needed)  # a file is as wide as its lines
        console.print(table)
        console.width = width
    for model in record.models:
        console.print(verdict_line(record, model))
    for model in record.models:
        if model.stopped is not None:
            told = f"{brief(model.name)}: ended early: {model.stopped}; the same command goes on"
            console.print(Text(told, "yellow"))
    for model in record.models:
        if model.certificate and (late := time_line(model.certificate.out_of_time, model.n)):
            console.print(f"{brief(model.name)}: {model.certificate.method}: {late}")
    for model in record.models:
        for warning in model.warnings:
            some = ", ".join(str(index) for index in warning.images[:8]) + (" ..." if len(warning.images) > 8 else "")
            images = f" (images {some})" if warning.images else ""
            advice = f" {warning.advice[:1].upper()}{warning.advice[1:]}." if warning.advice else ""
            said = f"{warning.name}: {warning.message}{images}.{advice}"
            console.print(Text(f"warning: {brief(model.name)}: {said}", "yellow"))
    for model in record.models:
        for left_out in model.missing:
            console.print(Text(f"not done: {brief(model.name)}: {left_out}", "yellow"))
    for model in record.models:
        if model.deployed is not None:
            console.print(_deployed_text(brief(model.name), model.deployed))
    console.print(_cost_line(record))
    if record.run is not None:
        console.print(f"Run: {record.run}", soft_wrap=True)
    return text.getvalue().rstrip("\n")


def percent(count: int, n: int) -> str:
    """A share of n images, with one decimal, as tables of the field have it."""
    return f"{100 * count / n:.1f}%" if n else "-"


def _table(record: RunRecord, k: int, eps: float, intervals: bool = True) -> Table:
    """The table at one budget; without intervals it fits into narrow windows."""

    def cell(count: int, n: int, ends: tuple[float, float]) -> str:
        low, high = (100 * bound for bound in ends)
        return percent(count, n) + (f" [{low:.1f}, {high:.1f}]" if intervals else "")

    seed = f", seed {record.data.seed}" if record.data.seed is not None else ""
    table = Table(
        title=f"Accuracy under attack, {record.threat.norm} eps {eps:g}, {brief(record.data.name, 48)} "
        f"{record.data.split}, n {record.data.n}{seed}",
    )
    table.add_column("MaxIter")
    for model in record.models:
        table.add_column(brief(model.name), justify="right", overflow="fold")
    natural = [cell(m.natural_correct, m.n, m.natural_interval) for m in record.models]
    table.add_row("Natural", *natural, end_section=True)
    if any(model.certificate and model.certificate.broken for model in record.models):
        cells = [cell(left, m.n, interval(left, m.n)) for m in record.models for left in [after_examples(m, k)]]
        table.add_row(f"Examples of {_method(record)}", *cells, end_section=True)
    for legs in itertools.zip_longest(*(model.legs for model in record.models)):  # a check may have added one
        row: list[str] = []
        for model, at in zip(record.models, legs, strict=True):
            if at is None:
                row.append("-")
                continue
            ends = at.interval[k] if isinstance(at.interval, list) else at.interval
            row.append(cell(as_list(at.attacked_correct)[k], model.n, ends))
        table.add_row(leg_name([leg for leg in legs if leg is not None]), *row)
    if any(model.certificate for model in record.models):
        proven: list[str] = []
        left: list[str] = []
        for model in record.models:
            certificate = model.certificate
            if certificate is None:
                proven.append("-")
            else:
                ends = certificate.interval[k] if isinstance(certificate.interval, list) else certificate.interval
                proven.append(cell(as_list(certificate.correct)[k], model.n, ends))
            left.append(str(as_list(model.verdicts.open)[k]))
        table.add_section()
        table.add_row(f"Certified ({_method(record)})", *proven)
        table.add_row("Open images", *left)
    return table


def after_examples(model: ModelRecord, k: int) -> int:
    """Return how many images stand at the k-th budget before any leg, examples of the certificate counted."""
    broken = model.certificate.broken if model.certificate else None
    return model.natural_correct - (0 if broken is None else as_list(broken)[k])


def leg_name(legs: list[LegRecord]) -> str:
    """A leg as a row of a table: the attack, and what it is where it is no whole leg of the plan."""
    leg = legs[0]
    told = [one.beside for one in legs if one.beside] + ["ended early"] * any(one.stopped for one in legs)
    return str(LegPlan(leg.attack, leg.iterations, leg.restarts)) + (f" ({'; '.join(told[:2])})" if told else "")


def _method(record: RunRecord) -> str:
    return next(model.certificate.method for model in record.models if model.certificate)


def verdict_line(record: RunRecord, model: ModelRecord) -> Text:
    """Return lines on more iterations, by a model's sweep, and on the distances of its adversarial examples."""
    parts = [Text(f"{brief(model.name)}: ", "bold")]
    parts.append(iterations_text(model, record))
    if record.goal == "minimize":
        parts.append(_distance_text(model, max(record.threat.eps)))
    return Text.assemble(*parts)


def _distance_text(model: ModelRecord, largest: float) -> Text:
    """Quartiles of the distance; an image that is certified beyond the largest eps was not attacked, so has none."""
    left = [image for image in model.images if image.distance is None]
    spared = sum((image.radius or 0.0) > largest for image in left)
    missing = "not attacked (certified)" if spared and spared == len(left) else "none found"
    d = model.distance
    shown = [missing if value is None else f"{value:.4g}" for value in (d.q25, d.median, d.q75)]
    some = f"; {spared} of {model.n} images not attacked (certified beyond eps {largest:g})" if spared else ""
    over = f" of all {model.n} images (0 where wrong)"
    return Text(f"; adversarial distance{over}: median {shown[1]}, quartiles {shown[0]} and {shown[2]}{some}")


def iterations_text(model: ModelRecord, record: RunRecord) -> Text:
    """Return the verdict on more iterations: of the sweep, or what the end of a plan without one shows."""
    if model.plateau is not None:
        return plateau_text(model, model.plateau, record)
    if model.plan_end is not None:
        return plan_end_text(model.plan_end)
    return Text("no leg ran to its end: no verdict on more iterations")


_LONGER = "ten times the iterations were not tried: the same command with --until flat tries them"


def plan_end_text(end: PlanEndRecord) -> Text:
    """Settled at its end, still falling or undecided, what was counted, and the command that would decide."""
    if not end.entered:
        return Text(f"settled: {end.leg} left no image open", "green")
    low, high = (100 * bound for bound in end.interval)
    part = f"the last {100 - 100 * end.after:.0f}% of the iterations of {end.leg}" if end.after else end.leg
    bounds = f"at most {high:.1f}%" if end.newly_broken == 0 else f"{low:.1f}% to {high:.1f}%"
    broke = f"{part} broke {end.newly_broken} of {end.entered} open images (95% bound: {bounds})"
    fell = "no leg broke any" if end.last is None else f"the last image fell to {end.last}"
    when = "" if end.last_at is None else f", at {100 * end.last_at:.0f}% of its iterations"
    words, colour = {
        "settled": ("settled at the end of the plan", "green"),
        "falling": ("still falling at the end of the plan", "red"),
        "undecided": ("undecided whether more iterations help", ""),
    }[end.verdict]
    advice = _LONGER if end.needed is None else f"too few are open to tell more: raise --n until about {end.needed} are"
    return Text(f"{words}: {broke}; {fell}{when}; {advice}", colour)


def plateau_text(model: ModelRecord, plateau: PlateauRecord, record: RunRecord) -> Text:
    """Flat, still falling or undecided, and what was counted."""
    k = record.threat.eps.index(plateau.eps)
    at = {
        leg.iterations: percent(as_list(leg.attacked_correct)[k], model.n)
        for leg in reversed(model.legs)
        if leg.attack == plateau.attack and leg.restarts == plateau.restarts
    }
    broke = f"{short(plateau.after)} iterations broke {plateau.newly_broken} of {plateau.entered} open images"
    low, high = (100 * bound for bound in plateau.interval)
    since = plateau.since or plateau.before
    others = _others_text(plateau)
    if plateau.verdict == "flat":
        return Text(f"flat since {short(since)} ({at[since]}): {broke}{others}", "green")
    if plateau.verdict == "disputed":
        return Text(f"disputed: {plateau.attack} is flat since {short(since)} ({at[since]}){others}", "red")
    share = f"{broke} (one-sided 95% bounds {low:.1f}% and {high:.1f}%)"
    if plateau.verdict == "falling":
        return Text(f"still falling ({at[plateau.before]} -> {at[plateau.after]}): {share}", "red")
    needed = f"; about {plateau.needed} open images would decide" if plateau.needed else ""
    return Text(
        f"undecided whether more iterations help ({at[plateau.before]} -> {at[plateau.after]}): {share}{needed}{others}"
    )


def _others_text(plateau: PlateauRecord) -> str:
    others = plateau.others
    if others is None:
        return ""
    return f"; of {others.entered} that it left open, {', '.join(others.attacks)} broke {others.newly_broken}"


def _deployed_text(name: str, found: DeployedRecord) -> Text:
    """Return a line on the examples that fool the deployed model, and on what really ran it."""
    what = "its ONNX export" if found.exported else "the model"
    ran = f"onnxruntime {found.version}, {found.provider}"
    if found.provider != found.asked:
        ran += f"; {found.asked} was asked for and did not run"
    text = f"{name}: {found.fooled} of {found.examples} adversarial examples fool {what} in {ran}"
    if found.failed:
        text += f" (not: images {', '.join(map(str, found.failed[:8]))}{' ...' if len(found.failed) > 8 else ''})"
    return Text(text, "green" if not found.failed else "yellow")


def _cost_line(record: RunRecord) -> str:
    spent = [model.spent for model in record.models]
    forwards, backwards = sum(one.forwards for one in spent), sum(one.backwards for one in spent)
    seconds = sum(one.seconds for one in spent)
    return f"Spent {forwards:,} forwards and {backwards:,} backwards (images), {seconds:.1f} s on {record.device}."
