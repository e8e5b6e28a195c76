"""Snapshots of another version are refused."""

from __future__ import annotations

import pytest

from robcert.errors import EvaluationError
from robcert.search.snapshot import FORMAT, Snapshot, check_format


def test_only_snapshots_of_this_format_are_read() -> None:
    now = Snapshot({}, {"format": FORMAT, "queue": []})
    assert check_format(now) is now
    for meta in ({"queue": []}, {"format": FORMAT - 1}, {"legs": []}):
        with pytest.raises(EvaluationError, match="another version of robcert"):
            check_format(Snapshot({}, meta))
