"""Losses: their sign is the verdict, and scale, shift and outliers change nothing that they should not."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from robcert.attacks.common.targets import pick, rank_target_classes
from robcert.attacks.losses import Climb, losses
from robcert.attacks.losses.cross_entropy import cross_entropy
from robcert.attacks.losses.logit_difference_ratio import difference_of_logits_ratio
from robcert.attacks.protocol import Objective
from robcert.criteria.misclassified import MISCLASSIFIED, margin, others_max
from robcert.errors import UsageError

cases = st.tuples(st.integers(0, 10**6), st.sampled_from([2, 3, 10, 1000]), st.sampled_from([1e-6, 1.0, 1e6]))


def draw(case: tuple[int, int, float]) -> tuple[Tensor, Tensor]:
    seed, classes, scale = case
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(16, classes, generator=generator)
    return logits, torch.randint(0, classes, (16,), generator=generator)


NAMES = [name for name in losses.names() if name != "alternate"]
PLAIN = ["ce", "margin"]
"""The objectives whose scale the caller does not see; the ratio (dlr) has tests of its own."""


def loss(name: str, target: Tensor | None = None, late: bool = False) -> Objective:
    """The loss of that name on restart 0 of 16 images, in one half of their iterations."""
    return losses.get(name)(Climb(torch.zeros(16), torch.full((16,), late), target, MISCLASSIFIED))


def gradient(name: str, logits: Tensor, y: Tensor) -> Tensor:
    point = logits.clone().requires_grad_(True)
    (found,) = torch.autograd.grad(loss(name)(point, y).sum(), point)
    return found


@given(case=cases)
def test_the_sign_of_the_margin_is_the_verdict(case: tuple[int, int, float]) -> None:
    logits, y = draw(case)
    assert torch.equal(margin(logits, y) > 0, logits.argmax(dim=1) != y)
    for row, label in zip(logits.tolist(), y.tolist(), strict=True):
        others = [value for k, value in enumerate(row) if k != label]
        assert max(others) == float(others_max(torch.tensor([row]), torch.tensor([label])))


@given(case=cases, name=st.sampled_from(PLAIN))
def test_gradients_point_away_from_the_label(case: tuple[int, int, float], name: str) -> None:
    logits, y = draw(case)
    found = gradient(name, logits, y)
    own = found.gather(1, y[:, None]).squeeze(1)
    assert bool((own < 0).all())
    assert bool((found.scatter(1, y[:, None], 0.0) >= 0).all())
    assert torch.allclose(found.sum(dim=1), torch.zeros(16), atol=1e-5 * float(found.abs().max()))


@given(case=cases, power=st.sampled_from([-40, -20, 20, 40]))
def test_cross_entropy_is_free_of_scale(case: tuple[int, int, float], power: int) -> None:
    """Powers of two multiply float32 without rounding, so the weights on the classes must agree to rounding."""
    logits, y = draw(case)
    factor = 2.0**power
    assert torch.allclose(cross_entropy(logits, y), cross_entropy(logits * factor, y), rtol=1e-5, atol=1e-6)
    weights, scaled = gradient("ce", logits, y), gradient("ce", logits * factor, y) * factor
    assert torch.allclose(weights, scaled, rtol=1e-4, atol=1e-6 * float(weights.abs().max()))


@given(case=cases, shift=st.sampled_from([-100.0, 100.0]), name=st.sampled_from(NAMES))
def test_a_constant_added_to_every_logit_changes_nothing(case: tuple[int, int, float], shift: float, name: str) -> None:
    logits, y = draw((case[0], case[1], 1.0))
    logits = (logits * 2**10).round() / 2**10  # so that adding 100 is exact
    before, after = loss(name)(logits, y), loss(name)(logits + shift, y)
    assert torch.allclose(before, after, rtol=1e-5, atol=1e-5)
    assert torch.allclose(gradient(name, logits, y), gradient(name, logits + shift, y), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("classes", [3, 10])
def test_one_class_far_below_does_not_flatten_the_rest(classes: int) -> None:
    """An ordinary spread, then the last class moved a million below: the other classes keep their weights."""
    torch.manual_seed(0)
    logits, y = torch.randn(64, classes), torch.randint(0, classes - 1, (64,))
    logits[:, -1] = -5.0
    near = gradient("ce", logits, y)
    logits[:, -1] = -1e6
    far = gradient("ce", logits, y)
    peak = near.abs().amax(dim=1)
    assert bool((far.abs().amax(dim=1) > 0).all())
    assert torch.allclose(far.abs().amax(dim=1) / peak, torch.ones(64), rtol=0.05)
    assert torch.equal(gradient("margin", logits, y)[:, -1], torch.zeros(64)) or classes == 3


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1.0, 1e6, 1e30])
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_no_saturation_at_any_scale(scale: float, classes: int) -> None:
    """A confident right answer still has a gradient that a normalised step can use."""
    logits = torch.zeros(1, classes)
    logits[0, 0] = 1.0
    logits[0, 1] = 0.5
    found = gradient("ce", logits * scale, torch.tensor([0])) * scale
    assert float(found.abs().max()) > 1e-5
    assert bool(found.isfinite().all())


def test_equal_logits_are_finite() -> None:
    logits = torch.zeros(2, 5)
    for name in NAMES:
        assert bool(gradient(name, logits, torch.tensor([0, 3])).isfinite().all())


def test_unknown_objectives_are_refused_by_name() -> None:
    from robcert.attacks import attacks

    for name in ("pgd", "fgsm"):
        with pytest.raises(UsageError, match=r"unknown objective 'mragin'(?s:.)*'margin'"):
            try:
                attacks.get(name)(objective="mragin")
            except UsageError as error:
                raise UsageError(str(error)) from None


@given(case=cases, power=st.sampled_from([-40, 40]))
def test_the_ratio_is_free_of_scale_and_has_the_sign_of_the_margin(case: tuple[int, int, float], power: int) -> None:
    logits, y = draw(case)
    value = difference_of_logits_ratio(logits, y)
    assert torch.equal(value > 0, margin(logits, y) > 0)
    if logits.shape[1] > 2:
        assert torch.allclose(value, difference_of_logits_ratio(logits * 2.0**power, y), rtol=1e-5)
        among = pick(logits, y) >= logits.topk(3, dim=1).values[:, 2]
        assert bool((value[among] <= 1 + 1e-6).all()), "a label among the three lies at most their spread below the top"
    else:
        assert torch.equal(value, margin(logits, y))


@given(case=cases)
def test_targeted_objectives_climb_to_their_target(case: tuple[int, int, float]) -> None:
    logits, y = draw(case)
    for rank in range(min(3, logits.shape[1] - 1)):
        target = rank_target_classes(logits, y)[:, rank]
        assert bool((target != y).all())
        assert bool((loss("margin", target)(logits, y) <= margin(logits, y)).all())
        for name in losses.names():
            point = logits.clone().requires_grad_(True)
            value = loss(name, target)(point, y)
            (slope,) = torch.autograd.grad(value.sum(), point)
            if name == "dlr":  # it also moves the logits that it is divided by: what counts is its sign
                assert torch.equal(value > 0, loss("margin", target)(logits, y) > 0)
                continue
            # The plain one stands still where the target already has all of the probability.
            least = 0 if name == "ce-plain" else torch.finfo(slope.dtype).tiny
            assert bool((pick(slope, target) >= least).all())
            assert bool((pick(slope, target) - pick(slope, y) >= 0).all())


def test_rivals_are_in_the_order_of_the_logits() -> None:
    logits, y = torch.tensor([[3.0, 1.0, 2.0, 0.0], [0.0, 0.0, 5.0, 1.0]]), torch.tensor([2, 2])
    assert rank_target_classes(logits, y).tolist() == [[0, 1, 3], [3, 0, 1]]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("name", losses.names())
def test_every_loss_rises_towards_success(name: str, late: bool) -> None:
    """A small step along the gradient lowers no value and raises most, untargeted and towards a target."""
    logits, y = draw((0, 10, 1.0))
    for target in (None, rank_target_classes(logits, y)[:, 1]):
        climbed = loss(name, target, late)
        point = logits.clone().requires_grad_(True)
        before = climbed(point, y)
        (slope,) = torch.autograd.grad(before.sum(), point)
        assert before.shape == (16,)
        after = climbed(logits + 1e-3 * slope.sign(), y)
        assert bool((after >= before).all()), "dlr is 1 where the label is the third class, and stays it"
        assert float((after > before).float().mean()) > 0.8
