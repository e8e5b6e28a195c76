"""The loss of L2NNNs against its formulas, and where naive code gives NaN."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from robcert.nn.loss import GapLoss, log_others


def test_against_the_formulas() -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 3, 4, 0, 1])
    loss = GapLoss(5, gamma=0.7, omega=0.2, v=2.0, z=3.0).double()
    loss.u.data = torch.rand(5, generator=generator, dtype=torch.float64) + 1

    def softmax(logits: torch.Tensor) -> torch.Tensor:
        return (logits.exp() / logits.exp().sum(1, keepdim=True))[torch.arange(7), labels]

    l_a = -softmax(loss.u * y).log().mean()
    l_b = -softmax(2.0 * y).log().mean()
    l_c = (1 - softmax(3.0 * y)).log().mean() / 3.0
    assert float(loss(y, labels).detach()) == pytest.approx(float((l_a + 0.7 * l_b + 0.2 * l_c).detach()), rel=1e-12)


@pytest.mark.parametrize("both", [False, True])
def test_distorted_images_are_seen_by_their_terms_only(both: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    y, distorted = torch.randn(2, 7, 5, generator=generator, dtype=torch.float64)
    labels = torch.arange(7) % 5
    loss = GapLoss(5, gamma=0.7, omega=0.2, v=2.0, z=3.0).double()
    found = loss(y, labels, distorted=distorted, distort_accuracy=both)
    l_b = loss.accuracy(distorted if both else y, labels)
    expected = loss.features(distorted, labels) + 0.7 * l_b + 0.2 * loss.gap(y, labels)
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-12)
    assert float(found.detach()) != pytest.approx(float(loss(y, labels).detach()), rel=1e-3)


@pytest.mark.parametrize("trainable", [False, True])
def test_v_is_trained_only_if_asked(trainable: bool) -> None:
    loss = GapLoss(3, v=2.0, trainable_v=trainable)
    assert {name for name, _ in loss.named_parameters()} == ({"u", "v"} if trainable else {"u"})
    loss(torch.eye(3), torch.tensor([0, 1, 2])).backward()
    assert (loss.v.grad is not None) == trainable


@settings(max_examples=100, deadline=None)
@given(
    logits=st.lists(st.floats(-1e4, 1e4, width=32), min_size=2, max_size=6),
    label=st.integers(0, 5),
    z=st.sampled_from([0.1, 1.0, 10.0]),
)
def test_finite_for_extreme_logits(logits: list[float], label: int, z: float) -> None:
    y = torch.tensor([logits], requires_grad=True)
    loss = GapLoss(len(logits), z=z)
    value = loss(y, torch.tensor([label % len(logits)]))
    value.backward()
    assert bool(torch.isfinite(value))
    assert y.grad is not None
    assert bool(torch.isfinite(y.grad).all())
    assert loss.u.grad is not None
    assert bool(torch.isfinite(loss.u.grad).all())


def test_the_gap_term_is_linear_where_softmax_is_one() -> None:
    y = torch.tensor([[1e4, 0.0, -5.0], [0.0, 1e4, 0.0]], requires_grad=True)
    value = log_others(y, torch.tensor([0, 0]))
    assert value.tolist() == pytest.approx([-1e4, 0.0], abs=1e-2)
    value.sum().backward()
    assert y.grad is not None
    # Still a gradient for the confident right answer, where 1 - softmax is 0 in float32.
    assert float(y.grad[0, 0]) == pytest.approx(-1)
    assert functional.softmax(y.detach(), 1)[0, 0] == 1
