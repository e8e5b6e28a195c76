"""Thresholds: the promised rate of false positives, in the long run and within the beta-binomial interval."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import betabinom

from robcert.data import load_dataset
from robcert.errors import EvaluationError, UsageError
from robcert.network import from_module, load_model
from robcert.sensitivity.detection import divide, fix_threshold
from robcert.sensitivity.threshold import Threshold, beside, calibrate, read_threshold, write_threshold


def threshold(n: int, rank: int, value: float = 1.0) -> Threshold:
    return Threshold(
        statistic="row",
        value=value,
        rate=0.05,
        n=n,
        rank=rank,
        data="digits",
        split="test",
        seed=0,
        model="m",
        sha256="0",
    )


@given(n=st.integers(19, 500), seed=st.integers(0, 1000), rate=st.sampled_from([0.05, 0.1, 0.25, 0.5]))
def test_at_most_the_rate_of_the_calibration_images_exceed_it(n: int, seed: int, rate: float) -> None:
    values = torch.from_numpy(np.random.default_rng(seed).lognormal(size=n))
    value, rank = calibrate(values, rate)
    assert int((values > value).sum()) == n - rank
    assert (n - rank + 1) / (n + 1) <= rate + 1e-9 < (n - rank + 2) / (n + 1), "the sharpest threshold that keeps it"


def test_new_images_are_rejected_at_the_rate_and_inside_the_interval() -> None:
    """Whatever the distribution: 2,000 calibrations of 100 images, each tested on 200 others."""
    rng = np.random.default_rng(0)
    rejected = []
    for _ in range(2000):
        value, rank = calibrate(torch.from_numpy(rng.pareto(1.0, size=100)), 0.05)
        rejected.append(int((rng.pareto(1.0, size=200) > value).sum()))
    assert rank == 96
    low, high = threshold(100, rank).false_positives(200)
    inside = np.mean([low <= count <= high for count in rejected])
    exact = betabinom(200, 5, 96)
    assert inside == pytest.approx(float(exact.cdf(high) - exact.cdf(low - 1)), abs=0.015)
    assert inside >= 0.94
    assert np.mean(rejected) / 200 == pytest.approx(5 / 101, abs=0.003)


@pytest.mark.parametrize(("n", "rate", "needed"), [(18, 0.05, "19"), (0, 0.05, "19"), (98, 0.01, "99")])
def test_too_few_images(n: int, rate: float, needed: str) -> None:
    with pytest.raises(UsageError, match=f"{n} clean calibration images") as caught:
        calibrate(torch.rand(n), rate)
    assert f"At least {needed}" in caught.value.do
    calibrate(torch.rand(int(needed)), rate)


@pytest.mark.parametrize("rate", [0.0, 1.0, -1.0, float("nan")])
def test_no_rate(rate: float) -> None:
    with pytest.raises(UsageError, match="false-positive rate"):
        calibrate(torch.rand(100), rate)


def test_a_threshold_is_a_finite_number() -> None:
    values = torch.rand(100)
    values[7] = float("nan")
    value, rank = calibrate(values, 0.05)
    assert (value, rank) == (float(values[~values.isnan()].double().sort().values[95]), 96), "NaN is the largest"
    for bad in (float("nan"), float("inf")):
        values[10:20] = bad
        with pytest.raises(EvaluationError, match="11 of 100 clean calibration images is NaN or infinite") as caught:
            calibrate(values, 0.05)
        assert "--statistic" in caught.value.do


def test_parts_are_disjoint_stratified_and_reproducible() -> None:
    data = load_dataset("digits")
    clean, rest = divide(data, 200, 150, 3)
    assert (len(clean), len(rest)) == (200, 150)
    assert not set(clean.index.tolist()) & set(rest.index.tolist())
    for part in (clean, rest):
        assert torch.equal(part.x, data.x[part.index])
        counts = part.y.bincount(minlength=10) / len(part)
        whole = data.y.bincount(minlength=10) / len(data)
        assert float((counts - whole).abs().max()) <= 0.02
    again = divide(data, 200, None, 3)
    assert torch.equal(again[0].index, clean.index)
    assert len(again[1]) == 300
    assert not torch.equal(divide(data, 200, None, 4)[0].index, clean.index)
    with pytest.raises(UsageError, match="none is left"):
        divide(data, 500, None, 0)
    with pytest.raises(UsageError, match="there are no clean test images"):
        divide(data, 100, 0, 0)


def test_a_threshold_is_kept_and_read(tmp_path: Path) -> None:
    model = load_model("digits-plain")
    clean, rest = divide(load_dataset("digits"), 100, 100, 0)
    found = fix_threshold(model, clean, "row", 0.1)
    assert (found.n, found.rank, found.sha256) == (100, 91, model.source.sha256)
    path = tmp_path / "row.json"
    write_threshold(found, path)
    assert read_threshold(path, model, None) == found
    assert read_threshold(path, model, "row") == found
    with pytest.raises(UsageError, match="of 'row', not of 'probability'"):
        read_threshold(path, model, "probability")
    with pytest.raises(EvaluationError, match="another file of digits-plain"):
        read_threshold(path, load_model("digits-at"), None)
    with pytest.raises(UsageError, match="no threshold of digits-plain"):
        read_threshold(tmp_path / "other.json", model, None)
    path.write_text("{}")
    with pytest.raises(EvaluationError, match="no threshold of this version"):
        read_threshold(path, model, None)
    with pytest.raises(UsageError, match="cannot write"):
        write_threshold(found, tmp_path / "no" / "row.json")
    assert beside(model).name == "weights.detector.json"
    with pytest.raises(UsageError, match="in no file"):
        beside(from_module(torch.nn.Linear(4, 2), (4,), 2))
    with pytest.raises(UsageError, match="unknown statistic 'rows'"):
        fix_threshold(model, clean, "rows")
    with pytest.raises(UsageError, match="no clean calibration images"):
        fix_threshold(model, divide(load_dataset("digits"), 0, None, 0)[0])
    del rest
