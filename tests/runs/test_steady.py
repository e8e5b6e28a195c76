"""With --search-precision float32 and a number of threads, nothing of a search is chosen by the clock."""

from __future__ import annotations

import pytest
from torch import nn

import robcert
from robcert.accel import batch_size, benchmark, layout, precision
from robcert.accel.precision import SearchPrecision
from robcert.runs.record import RunRecord
from robcert.types import Dataset, LoadedModel, Threat


def test_float32_asks_no_clock(model: LoadedModel, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is searched as it was loaded, where a race would have chosen another form."""

    def attack(asked: SearchPrecision) -> RunRecord:
        return robcert.attack(
            model, data, Threat("l2", (0.5,)), "pgd:10", search_precision=asked, cpu_threads=1, certify="none"
        )

    first = attack("float32")
    asked: list[int] = []

    def last_wins(networks: list[nn.Module], *_: object) -> list[float]:
        asked.append(len(networks))
        return [float(len(networks) - k) for k in range(len(networks))]

    for module in (layout, precision, benchmark, batch_size):
        monkeypatch.setattr(module, "benchmark", last_wins)
    second = attack("float32")
    assert not asked
    assert [image.distance for image in second.models[0].images] == [image.distance for image in first.models[0].images]
    attack("auto")
    assert asked
