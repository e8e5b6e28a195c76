"""`robcert show`: indices that are none are refused before anything is read."""

from __future__ import annotations

import pytest

from .conftest import Call


@pytest.mark.parametrize("index", ["1.5", "1e400", "-1", "nan", "8/4", "a", "", ",", "1,2.0", "9" * 30, "\u0663"])
def test_an_index_is_a_whole_number(call: Call, index: str) -> None:
    done = call("show", "nowhere", "--index", index)
    assert done.code == 2
    assert "is no index of an image" in done.err
    assert "Example: --index 12" in done.err


def test_indices_are_read(call: Call) -> None:
    assert "no index" not in call("show", "nowhere", "--index", " 12, 40,").err
