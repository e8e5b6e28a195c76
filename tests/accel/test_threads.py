"""The number of threads is chosen by the clock, and put back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from robcert.accel import threads as module
from robcert.accel.threads import fastest_threads, threads


@pytest.fixture
def four() -> Iterator[None]:
    with threads(4):
        yield


@pytest.mark.parametrize(("alone", "together", "expected"), [(1.0, 2.0, 1), (2.0, 1.0, 4)])
def test_the_faster_number_is_taken(
    four: None, alone: float, together: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def clock(networks: list[nn.Module], x: torch.Tensor, seconds: float) -> list[float]:
        asked.append(torch.get_num_threads())
        busy = 5.0 if len(asked) <= 2 else 0.0  # somebody else works during the first turn
        return [busy + (alone if asked[-1] == 1 else together)]

    monkeypatch.setattr(module, "benchmark", clock)
    assert fastest_threads(nn.Linear(2, 2), torch.rand(8, 2)) == expected
    assert asked == [1, 4, 1, 4]
    assert torch.get_num_threads() == 4


def test_one_thread_is_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "benchmark", lambda *_: pytest.fail("the clock was asked"))
    with threads(1):
        assert fastest_threads(nn.Linear(2, 2), torch.rand(8, 2)) == 1
