"""What a network is asked before anything relies on it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from robcert.errors import EvaluationError, UsageError
from robcert.network import from_module
from robcert.network.probe import FLOOR, probe

from .conftest import CLASSES, SHAPE, images, residual_net, small_net


class Noisy(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 0.1 * torch.randn_like(x)


class Constant(nn.Module):
    """Answers with the same value whatever it is asked."""

    def __init__(self, value: object) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: torch.Tensor) -> object:
        if isinstance(self.value, float):
            return torch.full((len(x), CLASSES), self.value)
        return self.value


def test_a_sound_network_has_no_warning_and_a_small_bound() -> None:
    model = from_module(residual_net(), SHAPE, CLASSES)
    assert model.warnings == ()
    assert FLOOR <= model.rounding < 1e-4


def test_the_rounding_bound_covers_float64_and_other_batch_sizes() -> None:
    model = from_module(residual_net(), SHAPE, CLASSES)
    x = torch.rand(64, *SHAPE)
    with torch.no_grad():
        whole = model.module(x)
        alone = torch.cat([model.module(row[None]) for row in x])
        bound = model.rounding * whole.abs().amax(1, keepdim=True)
        assert bool(((whole - alone).abs() <= bound).all())


def test_the_bound_is_the_same_at_every_load() -> None:
    net = residual_net()
    assert from_module(net, SHAPE, CLASSES).rounding == from_module(net, SHAPE, CLASSES).rounding


def test_softmax_is_named_with_its_consequence() -> None:
    (warning,) = from_module(nn.Sequential(small_net(), nn.Softmax(1)), SHAPE, CLASSES).warnings
    assert "gradients vanish" in warning
    assert "without its final softmax" in warning


def test_a_random_network_is_named_with_its_consequence_and_the_random_state_is_untouched() -> None:
    net = nn.Sequential(Noisy(), small_net())
    state = torch.random.get_rng_state()
    model = from_module(net, SHAPE, CLASSES)
    assert "verdicts may not hold" in model.warnings[0]
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_answer_that_is_no_number_ends_with_exit_code_3(value: float) -> None:
    with pytest.raises(EvaluationError, match="NaN or inf on") as caught:
        from_module(Constant(value), SHAPE, CLASSES)
    assert caught.value.exit_code == 3


def test_nan_weights_are_named() -> None:
    net = small_net()
    with torch.no_grad():
        net[3].weight[0, :2] = float("nan")
    with pytest.raises(EvaluationError, match=r"2 of 192 values of '3\.weight' are NaN"):
        from_module(net, SHAPE, CLASSES)


def test_the_wrong_number_of_classes() -> None:
    with pytest.raises(EvaluationError, match="has 3 classes, expected 10"):
        from_module(small_net(), SHAPE, 10)
    assert from_module(small_net(), SHAPE).num_classes == CLASSES


def test_the_wrong_shape_is_named() -> None:
    with pytest.raises(EvaluationError, match="of shape 3x5x5"):
        from_module(small_net(), (3, 5, 5), CLASSES)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ((torch.zeros(1), 2), "answers with a tuple"),
        (torch.zeros(1, 3, 2), r"of shape \(1, 3, 2\), expected logits of shape \(1, 3\)"),
        (torch.zeros(1, 1), r"of shape \(1, 1\)"),
        (torch.zeros(1, 3, dtype=torch.int64), "int64, expected float32"),
    ],
)
def test_what_is_no_logits(value: object, found: str) -> None:
    with pytest.raises(EvaluationError, match=found):
        probe(Constant(value), SHAPE, CLASSES, (0, 1))


def test_what_is_no_module() -> None:
    with pytest.raises(UsageError, match=r"found a str, expected a torch\.nn\.Module"):
        from_module("resnet18", SHAPE)  # pyright: ignore[reportArgumentType]


def test_the_box_is_where_the_network_is_asked() -> None:
    class Guard(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert float(x.min()) >= -3
            assert float(x.max()) <= -2
            return x.flatten(1)[:, :CLASSES]

    assert from_module(Guard(), SHAPE, CLASSES, box=(-3.0, -2.0)).box == (-3.0, -2.0)


def test_an_unknown_device() -> None:
    with pytest.raises(UsageError, match="'gpu7' cannot be used"):
        from_module(small_net(), SHAPE, device="gpu7")
    assert images(1).device.type == "cpu"
