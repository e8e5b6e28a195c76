"""A threat that operators have no norm in takes nothing from the others, and what it cannot have is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import robcert
from robcert.attacks import attacks
from robcert.bracket import Bracket
from robcert.errors import UsageError
from robcert.runs.proof import prove
from robcert.search.problem import SearchProblem
from robcert.threats import threats
from robcert.threats.kind import NORMS, Box, ThreatKind, norm_of
from robcert.types import Batch, Dataset, LoadedModel, Threat


class L0(ThreatKind):
    """The number of entries that change."""

    def distance(self, x: Tensor, adversarial: Tensor) -> Tensor:
        """Return it in the dtype of ``x``."""
        return (x != adversarial).flatten(1).sum(1).to(x.dtype)

    def diameter(self, shape: tuple[int, ...], box: Box) -> float:
        """Return the number of entries."""
        return float(torch.Size(shape).numel())


@pytest.fixture
def l0(monkeypatch: pytest.MonkeyPatch) -> Threat:
    threats.names()  # all of them, before one more
    monkeypatch.setitem(threats._entries, "l0", L0)  # pyright: ignore[reportPrivateUsage]
    return Threat("l0", (3.0,))


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return robcert.load_model("digits-plain")


@pytest.fixture(scope="module")
def data() -> Dataset:
    return robcert.load_dataset("digits", n=6)


def test_a_certificate_refuses_a_threat_without_constants(l0: Threat, model: LoadedModel, data: Dataset) -> None:
    bracket = Bracket(data.index)
    sentence = "there are certificates and norms of operators in l2, linf, l1, not in l0"
    search = SearchProblem(model, Batch(data.x, data.y, data.index), bracket, l0, "decide")
    assert prove("gap", model, search).refused == sentence
    assert float(bracket.radius.max()) == 0
    with pytest.raises(UsageError, match=sentence):
        robcert.certify(model, data, l0)


def test_what_needs_a_norm_refuses_a_threat_that_is_none(l0: Threat, model: LoadedModel, data: Dataset) -> None:
    assert "l0" not in NORMS
    assert not [name for name, kind in attacks.items() if "l0" in kind.norms]
    with pytest.raises(UsageError, match="the attack 'pgd' works in .*, not in l0"):
        robcert.attack(model, data, l0, "pgd:10")
    with pytest.raises(UsageError, match="the plan 'strong' is for l2, linf, l1, not for l0"):
        robcert.attack(model, data, l0, "strong")
    with pytest.raises(UsageError, match="l0 is a threat without a norm"):
        norm_of("l0")


def test_a_threat_has_its_own_distance_and_diameter(l0: Threat) -> None:
    x = torch.zeros(2, 1, 2, 2)
    assert l0.distance(x, x + torch.eye(2)).tolist() == [2.0, 2.0]
    assert l0.diameter((1, 2, 2)) == 4.0
    assert l0.with_tolerance(3.0, (1, 2, 2)) == 3.0
    assert "wider than half" in l0.too_wide((1, 2, 2))
    assert Threat("linf", (0.25,)).with_tolerance(0.25, (1, 2, 2)) > 0.25
