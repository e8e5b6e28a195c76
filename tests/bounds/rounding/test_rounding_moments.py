"""Layers that normalise by the statistics of one image: what their kernels round away is within the bound."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from robcert.bounds.rounding.logits import analyse, gap_error64, logit_rounding, logit_rounding_at, logits64
from robcert.certificates import certificates
from robcert.errors import EvaluationError
from robcert.network import from_module
from robcert.types import LoadedModel

K = 64


class Both(nn.Module):
    """(h, -h): as many logits as one wants, and no weights that add rounding of their own."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, -x], dim=1)


def normalised(layer: nn.Module) -> LoadedModel:
    """The layer and nothing else, on vectors of ``K`` entries."""
    torch.manual_seed(0)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    spatial = isinstance(layer, nn.GroupNorm | nn.InstanceNorm2d)
    between = [nn.Unflatten(1, (4, 4, 4)), layer, nn.Flatten()] if spatial else [layer]
    return from_module(nn.Sequential(*between, Both()).eval(), (K,), 2 * K)


LAYERS: dict[str, Callable[[float], nn.Module]] = {
    "layer_norm": lambda eps: nn.LayerNorm(K, eps),
    "layer_norm, no weights": lambda eps: nn.LayerNorm(K, eps, elementwise_affine=False),
    "rms_norm": lambda eps: nn.RMSNorm(K, eps),
    "group_norm": lambda eps: nn.GroupNorm(2, 4, eps),
    "instance_norm": lambda eps: nn.InstanceNorm2d(4, eps, affine=True),
}


def hard(n: int = 40) -> Tensor:
    """Images whose variance is small beside their mean, down to constant ones, and ordinary ones."""
    generator = torch.Generator().manual_seed(3)
    spread = torch.logspace(-7, 0, n, base=10).view(-1, 1)
    offset = torch.rand(n, 1, generator=generator)
    noise = torch.rand(n, K, generator=generator) - 0.5
    large = (torch.rand(n, K, generator=generator) < 0.5).float()
    return torch.cat([(offset + spread * noise).clamp(0, 1), torch.rand(n, K, generator=generator), large,
                      torch.full((1, K), 1 / 3), torch.ones(1, K), torch.zeros(1, K)])  # fmt: skip


MOMENTS_OF_SQUARES = ("group_norm", "instance_norm")
CASES = [
    (name, eps) for name in sorted(LAYERS) for eps in (1e-5, 1e-2, 1.0) if eps == 1 or name not in MOMENTS_OF_SQUARES
]


@pytest.mark.parametrize(("name", "eps"), CASES)
def test_the_kernels_stay_within_the_bound(name: str, eps: float) -> None:
    model = normalised(LAYERS[name](eps))
    x = hard()
    exact = logits64(model, x)
    with torch.no_grad():
        worst = (model.module(x).double() - exact).abs().amax(1)
    bound = logit_rounding(model).error
    assert bool((worst <= bound).all())
    share = 1e-6 if name in MOMENTS_OF_SQUARES else 1e-5
    assert float(worst.max()) > bound * share, "a bound that is so many times smaller would be refuted"
    near = logit_rounding_at(model, x[:3], 1e-3)
    assert bool((worst[:3] <= near).all())
    assert gap_error64(model) < bound * 1e-6


@pytest.mark.parametrize("name", MOMENTS_OF_SQUARES)
def test_an_eps_below_the_rounding_of_the_variance_is_refused(name: str) -> None:
    model = normalised(LAYERS[name](1e-5))
    with pytest.raises(EvaluationError, match="is too small beside the rounding of the variance"):
        logit_rounding(model)
    assert gap_error64(model) < 1e-5, "float64 has no such trouble"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 16, 17, 100, 4099])
def test_any_number_of_entries(size: int) -> None:
    """Chunks, vectors and what is left over: all paths of the kernel."""
    torch.manual_seed(size)
    module = nn.Sequential(nn.LayerNorm(size, 0.1, elementwise_affine=False), Both()).eval()
    model = from_module(module, (size,), 2 * size)
    x = torch.cat([torch.rand(20, size), 0.9 + 1e-4 * torch.rand(20, size), torch.full((1, size), 0.7)])
    with torch.no_grad():
        worst = (model.module(x).double() - logits64(model, x)).abs().amax(1)
    assert bool((worst <= logit_rounding(model).error).all())


def test_sizes_do_not_grow_with_the_lipschitz_constant() -> None:
    """A normalised image is no longer than max |gamma| sqrt k + ||beta||, whatever eps is, and so is what is behind."""
    model = normalised(nn.LayerNorm(K))
    layer = next(m for m in model.module.modules() if isinstance(m, nn.LayerNorm))
    most = float(layer.weight.abs().max()) * math.sqrt(K) + float(layer.bias.norm())
    assert analyse(model)[1].size <= 8 * most
    with torch.no_grad():
        assert float(model.module(hard()).norm(dim=1).max()) <= most * math.sqrt(2)


def test_a_network_with_layer_norm_is_certified() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.LayerNorm(64, 0.1), nn.ReLU(), nn.Linear(64, 10)).eval()
    model = from_module(net, (1, 8, 8), 10)
    x = torch.rand(50, 1, 8, 8)
    y = net(x).argmax(1)
    found = certificates.get("gap")(model, x, y, "l2")
    assert found.refused == ""
    assert float(found.radius.median()) > 0.5 * float(found.radius_real.median()) > 0
    small = from_module(nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.LayerNorm(64, 1e-12), nn.Linear(64, 10)),
                        (1, 8, 8), 10)  # fmt: skip
    with torch.no_grad():
        y = small.module(x).argmax(1)
    found = certificates.get("gap")(small, x, y, "l2")
    assert "eps = 1e-12 of layer_norm is too small" in found.refused
    assert float(found.radius.max()) == 0
    assert float(found.radius_real.max()) > 0, "real arithmetic has no such doubt"


def test_rms_norm_without_eps_is_another_layer_in_float64() -> None:
    with pytest.raises(EvaluationError, match="eps is that of the number format"):
        logit_rounding(normalised(nn.RMSNorm(K)))
