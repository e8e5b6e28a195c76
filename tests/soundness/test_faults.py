"""Each fault that certificates once had: it is not there, and were it put back, the test of operator samples tells."""

from __future__ import annotations

import pytest

from tests.soundness.faults import FAULTS
from tests.soundness.operator_samples import judged


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_is_put_back_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = FAULTS[name]
    sound = {cell.domain: cell for cell in judged(fault.pair)}
    assert fault.domain in sound, "there is a network to judge"
    assert not [cell for cell in sound.values() if cell.outcome in ("wrong", "raw")]
    fault.put_back(monkeypatch)
    broken = {cell.domain: cell for cell in judged(fault.pair)}
    assert broken[fault.domain].outcome == fault.outcome, broken[fault.domain]
