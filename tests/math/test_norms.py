"""One number an image, beside the image."""

from __future__ import annotations

import torch

from robcert.math.norms import l2_norm, l2_unit, per_image


def test_per_image_broadcasts() -> None:
    assert per_image(torch.ones(3), torch.zeros(3, 1, 8, 8)).shape == (3, 1, 1, 1)
    assert per_image(torch.ones(3), torch.zeros(3, 7)).shape == (3, 1)


def test_a_unit_vector_of_any_scale_and_none_of_zero() -> None:
    x = torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([1e-30, 1.0, 1e30]).view(
        3, 1, 1
    )
    assert torch.allclose(l2_norm(l2_unit(x)), torch.ones(3))
    assert not l2_unit(0 * x).any()
