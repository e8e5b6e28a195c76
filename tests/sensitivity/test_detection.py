"""Detection where the statistic of some images is NaN: they are rejected, and nothing else changes."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from robcert.attacks import attacks
from robcert.errors import EvaluationError
from robcert.network import from_module
from robcert.sensitivity.detection import Trial, detect, fix_threshold, roc, scale
from robcert.types import Batch, Dataset, LoadedModel


class Pooled(nn.Module):
    """Pools norms without an eps: on a blank image the square root has no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 3, bias=False), nn.Linear(36, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(nn.functional.avg_pool2d(self.conv(x).square(), 2).sqrt().flatten(1))


def pooled(blank: int) -> tuple[LoadedModel, Dataset]:
    """The network, and 60 images that it gets right, the first ones blank."""
    torch.manual_seed(0)
    model = from_module(Pooled(), (1, 8, 8), 3)
    x = torch.rand(60, 1, 8, 8)
    x[:blank] = 0
    return model, Dataset("toy", "test", x, model.module(x).argmax(1), torch.arange(60), ("a", "b", "c"))


def test_a_blank_image_is_rejected_and_the_rest_detected() -> None:
    model, data = pooled(1)
    threshold = fix_threshold(model, data)
    found = detect(model, data, threshold, [Trial("pgd", attacks.get("pgd")(iterations=3))], attacked=4)  # type: ignore[call-arg]
    assert int(found.clean.isnan().sum()) == 1 and found.rejected >= 1
    (result,) = found.results
    assert result.found and result.area is not None
    false, true = roc(found.clean, result.values)
    area = sum((b - a) * (c + d) / 2 for a, b, c, d in zip(false, false[1:], true, true[1:], strict=False))
    assert area == pytest.approx(result.area)
    as_large = found.clean.nan_to_num(nan=1e9)
    labels = [0] * 60 + [1] * len(result.values)
    assert result.area == pytest.approx(roc_auc_score(labels, torch.cat([as_large, result.values]).numpy()))


def test_too_many_blank_images_fix_no_threshold() -> None:
    with pytest.raises(EvaluationError, match="30 of 60 clean calibration images"):
        fix_threshold(*pooled(30))


def test_the_scale_of_attacks_is_that_of_images_with_a_gradient() -> None:
    model, data = pooled(4)
    images = Batch(data.x, data.y, data.index)
    assert scale(model, images) == scale(model, Batch(data.x[4:], data.y[4:], data.index[4:]))
    with pytest.raises(EvaluationError, match="each of 4 images"):
        scale(model, Batch(data.x[:4], data.y[:4], data.index[:4]))


def test_nan_ranks_as_infinity() -> None:
    nan, inf = float("nan"), float("inf")
    clean, values = torch.tensor([0.1, 0.2, nan, inf]).double(), torch.tensor([nan, 0.3, 0.2]).double()
    assert roc(clean, values) == roc(
        torch.tensor([1.0, 2.0, 9.0, 9.0]).double(), torch.tensor([9.0, 3.0, 2.0]).double()
    )
