"""Table 4 of paper A: L2NNN classifiers under linf attacks."""

from __future__ import annotations

from robcert.reproductions import reproduction
from robcert.reproductions._sweep import Match, Swept, available, load_images, runs, sweep, verdicts
from robcert.reproductions.record import Cell, Column, ReproduceRecord, Table
from robcert.reproductions.settings import Settings
from robcert.runs.plan import LegPlan, short
from robcert.runs.summary import as_list

BUDGETS = (0.1, 0.3)
MODELS = (
    Match("mnist-l2nnn", "Model 3", attacked={"0.1": 0.909, "0.3": 0.07}),
    Match("mnist-l2nnn-at", "Model 4", attacked={"0.1": 0.924, "0.3": 0.44}),
    Match("mnist-at"),
    Match("mnist-plain"),
)


@reproduction("l2nnn-table4", "restarts")
def l2nnn_table4(settings: Settings) -> ReproduceRecord:
    """Table 4 of L2-Nonexpansive Neural Networks: linf attacks of 1,000 iterations on MNIST."""
    there, missing = available(MODELS, "l2nnn-table4", "mnist", settings.models)
    images = load_images(settings, "mnist", n=settings.n)
    # The sweep down to 100 iterations says whether the last leg still gains.
    counts = sorted({min(100, settings.max_iterations), settings.max_iterations})
    plan = [LegPlan("cw", count) for count in counts]
    columns = [Column(name="eps", source="label", kind="text")]
    for match in there:
        columns.append(Column(name=match.ours))
        if match.paper:
            columns.append(Column(name=match.paper, source="paper"))
    rows: list[list[Cell]] = []
    swept: list[Swept] = []
    for eps in BUDGETS:
        at = sweep(there, images, "linf", eps, plan, settings)
        row: list[Cell] = [f"{eps:g}"]
        for one in at:
            row.append(as_list(one.model.legs[-1].attacked_correct)[0] / one.model.n)
            if one.match.paper:
                row.append((one.match.attacked or {})[f"{eps:g}"])
        rows.append(row)
        swept += at
    longest = short(settings.max_iterations)
    return ReproduceRecord(
        name="l2nnn-table4",
        title="Paper A, table 4: MNIST under linf attacks",
        command=f"robcert reproduce l2nnn-table4 --n {len(images)} --max-iterations {longest}",
        tables=[
            Table(
                title=f"Accuracy under cw:{longest}, linf, {images.name} test, n {len(images)}",
                columns=columns,
                rows=rows,
            )
        ],
        differences=[
            "Networks: ours are small enough for two cores (`robcert models`); the paper's have 22 layers.",
            "Attack: robcert's cw for linf, which bisects the threshold; the paper's table has 1,000 iterations.",
            "The paper's rows on CIFAR-10 are left out: the zoo has no such model.",
            *missing,
        ],
        verdicts=[
            f"eps {eps:g}: {line}"
            for eps, part in zip(BUDGETS, (swept[: len(there)], swept[len(there) :]), strict=True)
            for line in verdicts(part)
        ],
        runs=runs(swept),
    )
