"""Exactly what was run: specification, digests, versions, seeds, and the command that repeats it."""

from __future__ import annotations

import json
import shlex

from robcert.network import zoo_names
from robcert.reports.page.parts import Cell, Section, Table, cells
from robcert.reports.page.sources import Run, Sources
from robcert.runs.plan import LegPlan, swept
from robcert.runs.record import RunSpec

_ORDER = "class-order.json"


def provenance(sources: Sources) -> Section | None:
    """A table a run or file, and the commands."""
    tables: list[Table] = []
    for run in sources.runs:
        tables.append(Table(f"Run {run.name}", ("what", "value"), _rows(run)))
    for name, record in sources.certificates:
        rows = [cells(model.name, f"sha256 {model.sha256}") for model in record.models]
        for data in {model.data.sha256: model.data for model in record.models}.values():
            rows.append(cells("data", f"{data.name} {data.split}, n {data.n}, sha256 {data.sha256}"))
        tables.append(Table(f"Record {name}", ("what", "value"), rows))
    for name, record in sources.norms:
        rows = [cells(model.name, f"sha256 {model.sha256}") for model in record.models]
        tables.append(Table(f"Record {name}", ("what", "value"), rows))
    for name, record in sources.jacobians:
        rows = [cells(model.name, f"sha256 {model.sha256}") for model in record.models]
        tables.append(Table(f"Record {name}", ("what", "value"), rows))
    specs = [(run.name, run.spec) for run in sources.runs if run.spec is not None]
    foreign = sorted({m.name for _, spec in specs for m in spec.models} - set(zoo_names()))
    return Section(
        "What was run",
        "Digests of everything that decides the result, and the command that repeats it.",
        tables=tables,
        notes=[
            f"{name} is not a model of the zoo: in the command, put its file in the place of its name."
            for name in foreign
        ]
        + [f"{_ORDER} of {name}: {json.dumps(spec.data.class_order)}" for name, spec in specs if spec.data.class_order],
        code="\n".join(command(spec) for _, spec in specs),
    )


def command(spec: RunSpec) -> str:
    """The command that repeats a run, with every setting that decides its result."""
    legs = [LegPlan(leg.attack, leg.iterations, leg.restarts) for leg in spec.plan]
    plan = ",".join(str(leg) for leg in legs)
    words = ["robcert", "attack", *(model.name for model in spec.models)]
    words += ["--norm", spec.threat.norm, "--eps", ",".join(f"{eps:.17g}" for eps in spec.threat.eps)]
    words += ["--data", spec.data.name, "--n", str(spec.data.n), "--seed", str(spec.seed)]
    # Neither files that are not divided nor plans without a sweep have a use for these.
    words += ["--split", spec.data.split] if ":" not in spec.data.name or spec.data.split != "test" else []
    words += ["--flat", f"{spec.flat:g}"] if swept(legs) else []
    words += ["--class-order", _ORDER] if spec.data.class_order else []
    words += ["--plan", plan, "--goal", spec.goal, "--certify", spec.certify]
    words += ["--eot", str(spec.eot)] if spec.eot != 1 else []
    for attack, options in spec.options.items():
        for name, value in options.items():
            words += ["--option", f"{attack}.{name}={str(value).lower() if isinstance(value, bool) else value}"]
    # A line for every option: a browser would break a long one after the first dash of "--".
    return "".join((" \\\n  " if word.startswith("--") else " ") + shlex.quote(word) for word in words).strip()


def _rows(run: Run) -> list[list[Cell]]:
    record = run.record
    versions = ", ".join(f"{name} {value}" for name, value in record.versions.model_dump().items())
    seconds = sum(leg.seconds for model in record.models for leg in model.legs)
    return [
        cells("specification", f"sha256 {record.spec_sha256}"),
        *(cells(f"model {model.name}", f"sha256 {model.sha256}") for model in record.models),
        cells("data", f"{record.data.name} {record.data.split}, n {record.data.n}, seed {record.data.seed}"),
        cells("images and labels", f"sha256 {record.data.sha256}"),
        cells("threat", f"{record.threat.norm}, eps {record.threat.eps}, box {list(record.threat.box)}"),
        cells("goal, certificate", f"{record.goal}, {run.spec.certify if run.spec else 'not stored'}"),
        cells("seed", Cell(str(record.seed), f"{run.name}: seed", record.seed)),
        cells("versions", versions),
        cells("device", record.device),
        cells("seconds of attacks", f"{seconds:.1f}"),
    ]
