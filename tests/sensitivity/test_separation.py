"""The closest pair of two classes, against all distances in float64; table 4 of paper E."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from robcert.data import load_dataset
from robcert.errors import EvaluationError
from robcert.sensitivity import separation as module
from robcert.sensitivity.separation import comparisons, separation
from robcert.types import Dataset

ROOT = os.environ.get("ROBCERT_DATA")


def dataset(x: Tensor, y: Tensor) -> Dataset:
    return Dataset("toy", "train", x, y, torch.arange(len(y)) + 100, tuple("0123456789"))


def brute(data: Dataset) -> tuple[float, set[tuple[int, int]]]:
    """The smallest distance between classes, and the pairs of indices that have it."""
    flat = data.x.flatten(1).double()
    distances = torch.stack([(flat - one).norm(dim=1) for one in flat])
    distances[data.y[:, None] == data.y[None]] = float("inf")
    least = float(distances.min())
    where = (distances == least).nonzero().tolist()
    return least, {(int(data.index[i]), int(data.index[j])) for i, j in where}


@given(
    n=st.integers(4, 60),
    entries=st.integers(1, 40),
    classes=st.integers(2, 5),
    seed=st.integers(0, 10**6),
    levels=st.sampled_from([2, 17, 256]),
)
@settings(max_examples=40)
def test_it_is_the_brute_force_answer(n: int, entries: int, classes: int, seed: int, levels: int) -> None:
    """Few levels make ties, and equal images with different labels."""
    torch.manual_seed(seed)
    x = torch.randint(0, levels, (n, entries)).float() / (levels - 1)
    y = torch.arange(n) % classes
    data = dataset(x, y)
    least, pairs = brute(data)
    found = separation(data)
    assert found.distance == least
    assert (found.first, found.second) in pairs
    assert found.labels == (int(y[found.first - 100]), int(y[found.second - 100]))
    assert found.labels[0] < found.labels[1]
    assert found.lipschitz == (1 / least if least > 0 else float("inf"))


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_dataset("digits", split="train")
    whole = separation(data)
    assert (whole.distance, (whole.first, whole.second)) == (brute(data)[0], next(iter(brute(data)[1])))
    monkeypatch.setattr(module, "BLOCK", 50)
    monkeypatch.setattr(module, "_ENTRIES", 640)
    told: list[int] = []
    assert separation(data, advance=told.append) == whole
    assert sum(told) == comparisons(data)


def test_a_bright_data_set_does_not_hide_the_closest_pair() -> None:
    """Far from the origin the expanded square loses what is left of a small distance; the exact one does not."""
    torch.manual_seed(0)
    x = 0.9 + 1e-4 * torch.rand(300, 500)
    data = dataset(x, torch.arange(300) % 3)
    least, pairs = brute(data)
    found = separation(data)
    assert found.distance == least
    assert (found.first, found.second) in pairs


def test_duplicates() -> None:
    x = torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.5, 0.0], [0.5, 0.0], [0.9, 0.9]])
    data = dataset(x, torch.tensor([0, 1, 0, 1, 2]))
    found = separation(data)
    assert (found.distance, found.lipschitz) == (0, float("inf"))
    found = separation(data, exclude_duplicates=True)
    assert (found.distance, found.duplicates) == (0.5, 2)
    with pytest.raises(EvaluationError, match="that differ"):
        separation(dataset(x[:2], torch.tensor([0, 1])), exclude_duplicates=True)
    with pytest.raises(EvaluationError, match="no two images of different classes"):
        separation(dataset(x, torch.zeros(5, dtype=torch.int64)))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "printed"), [("mnist", 0.417), ("fashion-mnist", 0.626)])
def test_table_4_of_paper_e(name: str, printed: float) -> None:
    if ROOT is None:
        pytest.skip("no data folder")
    found = separation(load_dataset(name, split="train", data_dir=Path(ROOT)))
    assert found.lipschitz == pytest.approx(printed, abs=0.001)
