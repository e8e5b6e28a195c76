"""Which images a leg attacks, and which were never right."""

from __future__ import annotations

from torch import Tensor

from robcert.engine.batching import logits_of
from robcert.engine.witnesses import Witnesses
from robcert.errors import EvaluationError
from robcert.runs.proof import Proof
from robcert.types import Dataset, LoadedModel, Threat


def entrants(wrong: Tensor, witnesses: Witnesses, proof: Proof, threat: Threat, minimize: bool) -> list[int]:
    """Positions that a leg attacks: with "decide" the open ones, with "minimize" all that can still get closer.

    An image that is certified beyond the largest budget is never attacked.
    """
    going = ~wrong & (proof.radius <= threat.largest)
    if not minimize:
        going = going & (witnesses.distance > threat.largest)
    return going.nonzero().flatten().tolist()


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


def misclassified(model: LoadedModel, data: Dataset, slots: int) -> Tensor:
    """(n,) bool: the model's answer to the clean image is not the label; errors as `clean_logits`."""
    return clean_logits(model, data, slots).argmax(dim=1) != data.y.cpu()
