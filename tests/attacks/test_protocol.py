"""What all attacks share."""

from __future__ import annotations

import pytest
import torch

from robcert.attacks.protocol import among_the_last


@pytest.mark.parametrize(("iterations", "fine"), [(1, 1), (7, 1), (20, 1), (39, 1), (40, 2), (100, 5), (1000, 50)])
def test_every_search_ends_in_the_precision_of_the_network(iterations: int, fine: int) -> None:
    at = torch.arange(iterations)
    last = among_the_last(at, 1, iterations)
    assert int(last.sum()) == fine
    assert bool(last[-fine:].all())
    for steps in (2, 5):
        expected = [bool(last[k : k + steps].any()) for k in range(iterations)]
        assert among_the_last(at, steps, iterations).tolist() == expected
