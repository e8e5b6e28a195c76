"""Clipped kernels against the matrix of their circular convolution."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robcert.errors import UsageError
from robcert.nn.nonexpansive import constrain
from robcert.training.context import TrainingContext
from robcert.training.regularisers.clip_singular_values import ClipSingularValues, clipped


def matrix(kernel: Tensor, size: tuple[int, int], groups: int = 1) -> Tensor:
    """The circular convolution as a matrix; where the image wraps around makes no difference to singular values."""
    inside, height, width = kernel.shape[1:]
    units = torch.eye(inside * groups * size[0] * size[1], dtype=kernel.dtype).unflatten(1, (-1, *size))
    padded = nn.functional.pad(units, (0, width - 1, 0, height - 1), mode="circular")
    return nn.functional.conv2d(padded, kernel, groups=groups).flatten(1).T


@pytest.mark.parametrize("size", [(5, 5), (4, 6)])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_kernel_as_large_as_the_image_is_clipped_exactly(size: tuple[int, int], groups: int) -> None:
    torch.manual_seed(0)
    kernel = torch.randn(4, 4 // groups, *size, dtype=torch.float64)
    before = torch.linalg.svdvals(matrix(kernel, size, groups))
    largest = float(before.median())
    after = torch.linalg.svdvals(matrix(clipped(kernel, size, largest, groups), size, groups))
    torch.testing.assert_close(after, before.clamp_max(largest), rtol=1e-9, atol=1e-9)


def test_a_small_kernel_comes_nearer_and_a_small_norm_stays() -> None:
    torch.manual_seed(0)
    kernel, size = torch.randn(6, 3, 3, 3, dtype=torch.float64), (8, 8)
    norm = float(torch.linalg.svdvals(matrix(kernel, size)).max())
    torch.testing.assert_close(clipped(kernel, size, norm * 1.01), kernel)
    now = float(torch.linalg.svdvals(matrix(clipped(kernel, size, norm / 2), size)).max())
    assert now < 0.8 * norm


def context() -> TrainingContext:
    return TrainingContext(10, 1, (0.0, 1.0), torch.device("cpu"), torch.Generator(), (1, 8, 8))


def test_every_so_many_steps_and_below_a_parametrisation() -> None:
    torch.manual_seed(0)
    for constrained in (False, True):
        net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 10))
        if constrained:
            constrain(net)
        regulariser = ClipSingularValues(name="clip_singular_values", largest=0.1, every=3).build()
        regulariser.prepare(net, context())
        weight = dict(net.named_parameters())["0.parametrizations.weight.original" if constrained else "0.weight"]
        before = weight.detach().clone()
        with torch.no_grad():
            regulariser.after(net, 2)
            assert torch.equal(weight, before)
            regulariser.after(net, 3)
        torch.testing.assert_close(weight.detach(), clipped(before, (8, 8), 0.1))
        assert not torch.equal(weight, before)


def test_a_network_without_convolutions_is_refused() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    regulariser = ClipSingularValues(name="clip_singular_values", largest=1.0).build()
    with pytest.raises(UsageError, match="found no convolution"):
        regulariser.prepare(net, context())
