"""``robcert.gate``: a policy and its verdict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from robcert.network.device import usable_device
from robcert.policy.evaluate import How, evaluate
from robcert.policy.load import load_policy
from robcert.policy.record import GateRecord
from robcert.policy.schema import ModelEntry
from robcert.runs.reporter import Reporter, Silent


def gate(
    policy: str | Path | None = None,
    models: Sequence[str | ModelEntry] = (),
    *,
    class_order: str | Path | None = None,
    device: str = "auto",
    data_dir: str | Path | None = None,
    download: bool = False,
    batch_size: int | None = None,
    runs: str | Path | None = "runs",
    time_per_image: float | None = None,
    time_budget: float | None = None,
    full: bool = False,
    warn: bool = False,
    reporter: Reporter | None = None,
) -> GateRecord:
    """Check models against a policy: the robustness test of a CI.

    Every requirement is proven, empirical, inconclusive or failed. An evaluation ends as soon as its verdict cannot
    change; on a sample of the data all bounds are exact (Clopper-Pearson).

    Args:
        policy: the file; by default robcert.toml with [gate], else pyproject.toml with [tool.robcert.gate].
        models: names of the zoo, files or entries, in place of those of the policy.
        class_order: a file with the numbers of the classes, in place of the policy's.
        device: "auto" (CUDA where there is any), or a device of torch.
        data_dir: the folder of the data sets.
        download: whether missing data may be downloaded.
        batch_size: the most images attacked at once; None lets their size decide.
        runs: the folder of the run directories, in which the same gate goes on; None keeps nothing.
        time_per_image: CPU seconds for the certificate of each image, in place of those of the policy.
        time_budget: seconds by which attacks end, in place of those of the policy.
        full: run every plan to its end, though the verdict is settled.
        warn: an inconclusive verdict passes.
        reporter: is told about progress.

    Returns:
        The verdict on every requirement for every model, with counts, bounds and evidence; ``passed`` for a script.

    Raises:
        UsageError: the policy is wrong; a model, a data set or the baseline is missing or does not fit.
        EvaluationError: the evaluation could not be done.
        Interrupted: Ctrl-C, after saving.
    """
    entries = [ModelEntry(path=model) if isinstance(model, str) else model for model in models]
    source = load_policy(None if policy is None else Path(policy)).instead(
        entries, None if class_order is None else Path(class_order), time_per_image, time_budget
    )
    how = How(
        device=str(usable_device(device)),
        data_dir=None if data_dir is None else Path(data_dir),
        download=download,
        runs=None if runs is None else Path(runs),
        batch_size=batch_size,
        full=full,
        warn=warn,
        reporter=reporter or Silent(),
    )
    return evaluate(source, how)
