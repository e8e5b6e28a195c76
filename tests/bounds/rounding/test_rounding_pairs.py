"""Values that stand beside one another have the rounding of what they were read from, and no less."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from robcert.bounds.rounding.logits import logit_rounding, logits64
from robcert.network.load import from_module
from robcert.nn.orthogonal import MaxMin
from robcert.types import LoadedModel


class Between(nn.Module):
    """A function between two orthogonal matrices."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.front, self.back = (nn.Linear(12, 12, bias=False) for _ in range(2))
        for matrix in (self.front, self.back):
            nn.init.orthogonal_(matrix.weight)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.back(self.function(self.front(x)))


def between(function: Callable[[Tensor], Tensor]) -> LoadedModel:
    torch.manual_seed(0)
    return from_module(Between(function), (12,))


def halves(x: Tensor, first: Callable[[Tensor, Tensor], Tensor], second: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    a, b = x.chunk(2, 1)
    return torch.cat([first(a, b), second(a, b)], 1)


FREE: dict[str, Callable[[Tensor], Tensor]] = {
    "MaxMin": MaxMin(),
    "MaxMin, the other way round": lambda x: halves(x, torch.minimum, lambda a, b: torch.maximum(b, a)),
    "slices in another order": lambda x: torch.cat(x.split([5, 7], 1)[::-1], 1),
}
NOT_FREE: dict[str, Callable[[Tensor], Tensor]] = {
    "two maxima": lambda x: halves(x, torch.maximum, torch.maximum),
    "of other pairs": lambda x: halves(x, torch.maximum, lambda a, b: torch.minimum(a, 2 * b)),
    "a slice twice": lambda x: torch.cat([x[:, :6], x[:, :6]], 1),
    "slices that overlap": lambda x: torch.cat([x[:, :8], x[:, 6:10]], 1),
    "a slice that was computed with": lambda x: torch.cat([x[:, :6], 1.5 * x[:, 6:]], 1),
}


@pytest.mark.parametrize("name", FREE)
def test_what_only_moves_entries_adds_nothing(name: str) -> None:
    assert logit_rounding(between(FREE[name])).error <= logit_rounding(between(lambda x: x)).error * (1 + 1e-9)


@pytest.mark.parametrize("name", NOT_FREE)
def test_what_copies_or_computes_adds_something(name: str) -> None:
    assert logit_rounding(between(NOT_FREE[name])).error > logit_rounding(between(lambda x: x)).error * 1.1


@pytest.mark.parametrize("name", [*FREE, *NOT_FREE])
def test_executions_are_within_the_bound(name: str) -> None:
    model = between({**FREE, **NOT_FREE}[name])
    x = torch.rand(500, 12, generator=torch.Generator().manual_seed(1))
    off = float((model.module(x).double() - logits64(model, x)).abs().max())
    assert 0 < off <= logit_rounding(model).error
