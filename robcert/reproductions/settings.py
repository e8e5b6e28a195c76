"""The settings of a reproduction: how much of it, on which data, and where its runs are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from robcert.errors import UsageError
from robcert.runs.reporter import Reporter, Silent
from robcert.training import Epoch


@dataclass(frozen=True)
class Settings:
    """The part of the table that is computed, its data and its folder.

    Attributes:
        n: images, a stratified subset of the test set.
        max_iterations: the longest leg of a sweep; the shorter ones of the table come before it.
        restarts: of one more leg at ``max_iterations`` from random points; 1 adds none.
        data: a data set in place of the table's own; None leaves the choice to the table.
        data_dir: the folder of the data sets.
        download: whether missing data may be downloaded.
        seed: of the subset and of everything random.
        device: of the models.
        threads: CPU threads; None leaves the choice to the engine.
        models: only the columns of these models, in a table that has one for each model; empty: all.
        runs: the folder of the run directories, in which the same call goes on after an interruption.
        reporter: is told about progress.
        trained: is told about each epoch, where a table trains its networks.
    """

    n: int = 1000
    max_iterations: int = 1000
    restarts: int = 1
    data: str | None = None
    data_dir: Path | None = None
    download: bool = False
    seed: int = 0
    device: str = "cpu"
    threads: int | None = None
    models: tuple[str, ...] = ()
    runs: Path = Path("runs")
    reporter: Reporter = field(default_factory=Silent)
    trained: Callable[[Epoch], None] | None = None

    def without_models(self, table: str) -> None:
        """Refuses a choice of models, for a table that has no column for each model of the zoo.

        Raises:
            UsageError: there is one.
        """
        if self.models:
            raise UsageError(f"{table} has no columns of models to choose from", "Leave out --models")
