"""Table 2 of paper A: CIFAR-10 classifiers under l2 attacks of rising length."""

from __future__ import annotations

from robcert.reproductions import reproduction
from robcert.reproductions._sweep import Match, available, legs, load_images, runs, sweep, sweep_table, verdicts
from robcert.reproductions.record import ReproduceRecord
from robcert.reproductions.settings import Settings
from robcert.runs.plan import short

EPS = 1.5
ROWS = ("100", "1k", "10k", "1kx10", "100k")
MODELS = (
    Match("cifar10-plain", "Model 1", 0.95, {"100": 0.0, "1k": 0.0, "10k": 0.0, "1kx10": 0.0, "100k": 0.0}),
    Match("cifar10-at", "Model 2", 0.871, {"100": 0.139, "1k": 0.094, "10k": 0.09, "1kx10": 0.087}),
    Match("cifar10-l2nnn", "Model 3", 0.792, {"100": 0.102, "1k": 0.101, "10k": 0.101, "1kx10": 0.101, "100k": 0.101}),
    Match(
        "cifar10-l2nnn-at", "Model 4", 0.772, {"100": 0.208, "1k": 0.204, "10k": 0.204, "1kx10": 0.204, "100k": 0.204}
    ),
)


@reproduction("l2nnn-table2")
def l2nnn_table2(settings: Settings) -> ReproduceRecord:
    """Table 2 of L2-Nonexpansive Neural Networks: CIFAR-10, l2 attacks of at most 1.5, more and more iterations."""
    there, missing = available(MODELS, "l2nnn-table2", "cifar10", settings.models)
    images = load_images(settings, "cifar10", n=settings.n)
    plan = legs("cw", settings)
    swept = sweep(there, images, "l2", EPS, plan, settings)
    restarts = f" --restarts {settings.restarts}" if settings.restarts > 1 else ""
    return ReproduceRecord(
        name="l2nnn-table2",
        title="Paper A, table 2: CIFAR-10 under l2 attacks",
        command=f"robcert reproduce l2nnn-table2 --n {len(images)}"
        f" --max-iterations {short(settings.max_iterations)}{restarts}",
        tables=[
            sweep_table(f"Accuracy under cw, l2 eps {EPS:g}, {images.name} test, n {len(images)}", swept, plan, ROWS)
        ],
        differences=[
            "Networks and training: see `robcert models` and models/*/recipe.toml.",
            "Attack: cw with robcert's defaults, which needs fewer iterations than the paper's settings.",
            *missing,
        ],
        verdicts=verdicts(swept),
        runs=runs(swept),
    )
