"""Snapshots of robcert 0.1, which kept a part for each GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from robcert.errors import EvaluationError
from robcert.search.snapshot import Snapshot, of_one_leg


def test_one_part_is_the_leg_and_several_are_refused() -> None:
    x, leg, before = torch.arange(3.0), {"queue": [[0, 1]], "work": 2}, {"stages": 1}
    now = Snapshot({"problem.x": x}, {**leg, "before": before})
    assert of_one_leg(now) is now
    meta: dict[str, Any] = {"legs": [leg], "seconds": 1.5, "before": before}
    assert of_one_leg(Snapshot({"0/problem.x": x}, meta)) == now
    with pytest.raises(EvaluationError, match="on 2 GPUs"):
        of_one_leg(Snapshot({"0/problem.x": x, "1/problem.x": x}, {**meta, "legs": [leg, leg]}))
