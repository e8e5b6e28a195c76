"""Torch's own samples of every operator that an analysis knows: nothing that is claimed about them is broken.

A tenth of the pairs of each operator; all of them are in benchmarks/operator_samples.py.
"""

from __future__ import annotations

import zlib

import pytest

from tests.soundness.operator_classifiers import broken
from tests.soundness.operator_samples import DOMAINS, judged
from tests.soundness.sample_networks import drawn, operators, pairs

GROUPS = 12


@pytest.mark.parametrize("group", range(GROUPS))
def test_no_claim_about_a_sample_is_broken(group: int) -> None:
    names = [name for name in operators() if zlib.crc32(name.encode()) % GROUPS == group]
    assert names
    cells = [cell for name in names for pair in drawn(name) for cell in judged(pair)]
    bad = [cell for cell in cells if cell.outcome in ("wrong", "raw")]
    assert not bad, bad
    held = {cell.domain for cell in cells if cell.outcome == "held"}
    assert held == set(DOMAINS), "each analysis claims something about some sample"


def test_nothing_breaks_a_classifier_with_an_operator_inside_its_radius() -> None:
    names = operators()
    results = [broken([*pairs(name)][-1]) for name in names[::9]]
    assert [one for _, wrong in results for one in wrong] == []
    assert sum(certified > 0 for certified, _ in results) >= 5, "most operators leave something certified"
