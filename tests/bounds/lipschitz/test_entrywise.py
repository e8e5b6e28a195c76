"""Factors an entry: the bounds that L2-nonexpansive layers were made for come out, also with a t of its own each."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from robcert.bounds.lipschitz.network_bound import graph_bound
from robcert.nn import architectures
from robcert.nn.activations import ScaledSigmoid, TwoSided
from robcert.nn.nonexpansive import constrain, fold
from robcert.nn.normalisation import LargestScaleNorm
from robcert.nn.recurrent import Recurrent
from robcert.nn.split import ConvexResidual, Residual
from robcert.types import BOUND_NORMS

from .random_networks import Do

SHAPE = (3, 4, 4)
# Of the convolutions, whose l2 norms are bracketed to 1 %.
TOLERANCE = 1.02


def whole(*layers: nn.Module, shape: tuple[int, ...] = SHAPE) -> dict[str, float]:
    found = graph_bound(nn.Sequential(*layers, nn.Flatten()).eval(), shape)
    return {norm: found.bounds[norm].whole for norm in BOUND_NORMS}


def drawn(layer: nn.Module, seed: int = 0) -> nn.Module:
    """With t all over their ranges."""
    torch.manual_seed(seed)
    layer = constrain(layer)
    for parameter in layer.parameters():
        parameter.data += 1.5 * torch.randn_like(parameter)
    return fold(layer)


@pytest.mark.parametrize("shape", [(3, 1, 1), SHAPE])
def test_a_scaled_sigmoid_has_slope_one_whatever_its_t(shape: tuple[int, ...]) -> None:
    layer = drawn(ScaledSigmoid(*shape))
    assert float(layer.t.max() / layer.t.min()) > 5, "factor by factor the bound would be this"
    for layers in ([layer], [TwoSided(layer)]):
        assert whole(*layers) == pytest.approx(dict.fromkeys(BOUND_NORMS, 1.0), abs=1e-6)
        assert max(whole(*layers).values()) <= 1


@pytest.mark.parametrize("shape", [(), (3, 1, 1), SHAPE])
@pytest.mark.parametrize("channels", [3, 5])
def test_a_residual_block_is_nonexpansive(shape: tuple[int, ...], channels: int) -> None:
    """As many channels as the input, and more; one block and three in a row."""
    branch = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), nn.ReLU())
    block = drawn(Residual(branch, shape))
    inner = max(1.0, whole(branch)["l2"])
    found = whole(block)["l2"]
    assert found <= inner * (1 + 1e-6)
    if shape:
        t = block.t.detach().double()
        apart = float((t**2).max() + (1 - t**2).max())
        assert apart > 1.2, "op by op the bound would be this"
    if channels == 3:
        assert whole(block, block, block)["l2"] <= inner**3 * (1 + 1e-6)


def test_what_splits_without_shrinking_is_not_called_nonexpansive() -> None:
    """The bound is attained: p = q = 0.6 on one way, 0.8 and 1 on the other."""
    p, q, s, t = (torch.full((3, 1, 1), value) for value in (0.6, 0.6, 0.8, 1.0))
    found = whole(Do(lambda x: p * (q * x) + s * (t * x).abs()))["l2"]
    assert found >= 0.6 * 0.6 + 0.8 - 1e-6
    assert found <= math.sqrt(0.6**2 + 0.8**2) * math.sqrt(0.6**2 + 1) * (1 + 1e-6)


def test_signs_do_not_cancel_in_a_bound() -> None:
    """x - (-x) doubles; negative factors count with their size."""
    p, q = torch.full((3, 1, 1), 1.0), torch.full((3, 1, 1), -1.0)
    assert whole(Do(lambda x: p * x - q * x.abs()))["l2"] == pytest.approx(2, rel=1e-6)
    assert whole(Do(lambda x: torch.sigmoid(q * x) - 0.25 * x))["l2"] == pytest.approx(0.5, rel=1e-6)


def test_the_convex_form_in_all_norms() -> None:
    assert max(whole(drawn(ConvexResidual(nn.ReLU()))).values()) <= 1 + 1e-6


def test_normalisation_has_slopes_up_to_one() -> None:
    layer = LargestScaleNorm(3)
    nn.init.uniform_(layer.variance, 0.1, 3)
    nn.init.uniform_(layer.gamma, -2, 2)
    assert whole(layer) == pytest.approx(dict.fromkeys(BOUND_NORMS, 1.0), rel=1e-6)


def test_recurrent_layers_have_a_bound() -> None:
    found = whole(drawn(Recurrent(3, 4, reading="all")), shape=(5, 3))
    assert 0 < found["l2"] < 5


@pytest.mark.parametrize("options", [{}, {"ratio": "channel"}, {"heads": "single"}, {"blocks": 2, "channels": [4]}])
def test_every_logit_of_the_resnet_is_nonexpansive(options: dict[str, object]) -> None:
    net = drawn(architectures.get("l2nnn-resnet")((1, 8, 8), 5, **{"channels": [4, 4], "hidden": [8], **options}))
    bound = graph_bound(net.eval(), (1, 8, 8)).bounds["l2"]
    assert float(bound.logits.max()) <= TOLERANCE
    if options.get("heads") == "single":
        assert bound.whole <= TOLERANCE
        assert float(bound.pairs.max()) <= TOLERANCE * math.sqrt(2), "the guarantee is g / sqrt 2"


def test_stacks_of_their_own_keep_the_guarantee_of_each_logit() -> None:
    net = drawn(architectures.get("l2nnn")((1, 8, 8), 5, channels=[4], hidden=[8], label_hidden=[6, 4]))
    bound = graph_bound(net.eval(), (1, 8, 8)).bounds["l2"]
    assert float(bound.logits.max()) <= TOLERANCE
    assert float(bound.pairs.max()) <= 2 * TOLERANCE


def test_without_the_division_the_bound_says_so() -> None:
    options = {"channels": [4], "hidden": [8]}
    torch.manual_seed(0)
    kept = graph_bound(architectures.get("l2nnn")((1, 8, 8), 5, **options).eval(), (1, 8, 8))
    torch.manual_seed(0)
    undivided = graph_bound(architectures.get("l2nnn")((1, 8, 8), 5, divide_before=False, **options).eval(), (1, 8, 8))
    assert kept.bounds["l2"].whole <= TOLERANCE * math.sqrt(5)
    assert undivided.bounds["l2"].whole > 1.5 * kept.bounds["l2"].whole
