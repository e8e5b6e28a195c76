"""The answers of a model to the clean images."""

from __future__ import annotations

from torch import Tensor

from robcert.criteria import Criterion
from robcert.criteria.misclassified import MISCLASSIFIED
from robcert.errors import EvaluationError
from robcert.network.batching import logits_of
from robcert.types import Dataset, LoadedModel


def clean_logits(model: LoadedModel, data: Dataset, slots: int) -> Tensor:
    """(n, classes), the model's answers to the clean images, on the host.

    Raises:
        EvaluationError: one of them is NaN or infinity.
    """
    logits = logits_of(model.module, data.x, slots).cpu()
    bad = ~logits.isfinite().all(dim=1)
    if bool(bad.any()):
        images = ", ".join(str(int(i)) for i in data.index[bad][:5])
        raise EvaluationError(
            f"{model.name} answers NaN or infinity to {int(bad.sum())} of {len(data)} clean images (index {images})",
            "Check its weights and that the data is in the range it was trained for",
        )
    return logits


def met(criterion: Criterion, logits: Tensor, y: Tensor) -> Tensor:
    """(n,) bool: what counts as success holds without any perturbation."""
    # Of two equal logits the first is the answer, which a margin does not say.
    return logits.argmax(dim=1) != y if criterion is MISCLASSIFIED else criterion.margin(logits, y) > 0


def misclassified(model: LoadedModel, data: Dataset, slots: int) -> Tensor:
    """(n,) bool: the model's answer to the clean image is not the label; errors as `clean_logits`."""
    return met(MISCLASSIFIED, clean_logits(model, data, slots), data.y.cpu())
