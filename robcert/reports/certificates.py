"""The tables of `robcert certify`."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from robcert.reports import renderer
from robcert.reports.printed import printed
from robcert.runs.out_of_time import time_line
from robcert.runs.record import ThreatRecord
from robcert.runs.records.certify import CertifiedModel, CertifyRecord
from robcert.text import brief


@renderer("console", CertifyRecord)
def render_certify(record: CertifyRecord) -> str:
    """The table of certified accuracy, the radii, and bins and switches where they were asked for."""
    return printed(lambda console: _show(record, console))


def _show(record: CertifyRecord, console: Console) -> None:
    threat = record.threat
    title = f"Certified accuracy ({record.method}), {threat.norm}, {record.data_line}"
    console.print(title, style="italic")
    if len({model.method for model in record.models}) > 1:
        for name in dict.fromkeys(model.name for model in record.models):
            own = [model for model in record.models if model.name == name]
            console.print(_accuracy(own, threat, [model.method for model in own], name))
    else:
        console.print(_accuracy(record.models, threat, [model.name for model in record.models], None))
    for model in record.models:
        _print_model(model, record.threat, console)


def _accuracy(models: list[CertifiedModel], threat: ThreatRecord, heads: list[str], title: str | None) -> Table:
    """A row an eps, a column a model (or a method, with its time)."""
    table = Table(title=title, title_justify="left")
    table.add_column("eps")
    for head in heads:
        table.add_column(brief(head), justify="right", overflow="fold")
    table.add_row("Natural", *(_cell(m.natural_correct, m.n) for m in models), end_section=True)
    for k, eps in enumerate(threat.eps):
        table.add_row(f"{eps:g}", *(_cell(m.certified_correct[k], m.n) for m in models))
        reals = [_cell(m.certified_correct_real[k], m.n) for m in models]
        if any(m.certified_correct_real[k] != m.certified_correct[k] for m in models):
            table.add_row("  real arithmetic", *reals)
    if title is not None:
        table.add_section()
        table.add_row("ms an image", *(f"{1000 * m.seconds / max(1, m.n):.3g}" for m in models))
    return table


def _print_model(model: CertifiedModel, threat: ThreatRecord, console: Console) -> None:
    name = f"{brief(model.name)} ({model.method})"
    radii = f"median {model.median_radius:.4g}, quartiles {model.q25_radius:.4g} and {model.q75_radius:.4g}"
    radii = f"radius over all {model.n} images (0 where none is proven): {radii}"
    if model.radii == "at eps":
        radii = "radii were tested at eps only (--goal radius looks for the largest)"
    each = 1000 * model.seconds / max(1, model.n)
    if model.confidence is not None:
        console.print(
            f"{name}: probabilistic, about the classifier under noise of sigma {model.constants['sigma']:g}, not about "
            f"the network: each radius holds with confidence {model.confidence:g}; {model.constants['abstained']:g} "
            f"of {model.n} images abstained; {radii}; {each:.3g} ms an image"
        )
        return
    console.print(f"{name}: {radii}; average confidence gap {model.mean_gap:.4g}; {each:.3g} ms an image")
    for eps, count, by in zip(threat.eps, model.certified_correct, model.certified_by, strict=True):
        who = ", ".join(f"{kind} {images}" for kind, images in by.items())
        console.print(f"{name}: certified at eps {eps:g}: {count} of {model.n} images" + (f", by {who}" if who else ""))
    notes: list[str] = []
    if "lipschitz" in model.constants:
        notes.append(f"Lipschitz constant {model.constants['lipschitz']:.4g}")
        rounding = model.constants.get("rounding_float32")  # of methods that take it off as one number
        if rounding is not None or model.refused:
            known = "not known" if rounding is None else f"at most {rounding:.3g}"
            notes.append(f"rounding bound of a logit {known}")
    if "looser_than_ibp_alone" in model.constants:
        notes.append(f"linear bounds looser than intervals for {100 * model.constants['looser_than_ibp_alone']:.2g}%")
    if notes:
        console.print(f"{name}: {', '.join(notes)}")
    if late := time_line(model.out_of_time, model.n):
        console.print(f"{name}: {late}")
    if model.refused:
        console.print(
            f"{name}: nothing is claimed about the network as float32 executes it, only about the one in real "
            f"arithmetic: {model.refused}"
        )
    if model.steps:
        table = Table(title=f"{name}, step by step", title_justify="left")
        for column in ("method", "images", "first to certify", "ms an image"):
            table.add_column(column, justify="left" if column == "method" else "right")
        for step in model.steps:
            counts = " / ".join(map(str, step.first))
            table.add_row(step.method, str(step.images), counts, f"{1000 * step.seconds / max(1, step.images):.3g}")
        console.print(table)
    if model.bins:
        table = Table(title=f"{brief(model.name)} by confidence gap", title_justify="left")
        for column in ("images", "gap", "natural", "certified", "attacked"):
            table.add_column(column, justify="right")
        for part in model.bins:
            shares = (_cell(part.natural, part.n), _cell(part.certified, part.n))
            attacked = "-" if part.attacked is None else _cell(part.attacked, part.n)
            table.add_row(str(part.n), f"{part.largest_gap:.3g} to {part.smallest_gap:.3g}", *shares, attacked)
        console.print(table)
    if model.switch:
        console.print(f"{brief(model.name)}, below the switch {model.switch[0].fallback}", style="italic")
        table = Table()
        for column in ("switch", "delegated", "accuracy"):
            table.add_column(column, justify="right")
        for at in model.switch:
            table.add_row(f"{at.threshold:.4g}", _cell(at.delegated, model.n), _cell(at.correct, model.n))
        console.print(table)


def _cell(count: int, n: int) -> str:
    return f"{100 * count / n:.1f}%" if n else "-"
