r"""The threshold of a detector: fixed on clean images at a chosen rate of false positives, and kept in a file.

An image is rejected where its statistic exceeds the k-th smallest of n calibration values, k = ceil((n + 1)(1 - rate)).
Whatever the distribution, a new clean image of the same kind is then rejected with a probability that is at most
``rate`` on average and follows Beta(n + 1 - k, k), so that among m of them the number of false positives follows
BetaBinomial(m, n + 1 - k, k) (ties between values make it smaller).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from robcert.errors import EvaluationError, UsageError, did_you_mean, first_line
from robcert.files import write_text
from robcert.sensitivity.gradients import STATISTICS
from robcert.types import LoadedModel

SUFFIX = ".detector.json"


class Threshold(BaseModel):
    """A threshold, and what it was fixed on.

    Attributes:
        statistic: a name in `robcert.sensitivity.gradients.STATISTICS`.
        value: images whose statistic exceeds it are rejected.
        rate: the false-positive rate that was asked for.
        n: calibration images.
        rank: k, the place of ``value`` among the sorted calibration values.
        data, split, seed: where the calibration images are from: the first n in the order of the seed.
        model, sha256: the network, and the digest of its file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_: Literal["robcert.detector/1"] = Field(default="robcert.detector/1", alias="schema")
    statistic: str
    value: float = Field(allow_inf_nan=False)
    rate: float = Field(gt=0, lt=1)
    n: int = Field(ge=1)
    rank: int = Field(ge=1)
    data: str
    split: str
    seed: int
    model: str
    sha256: str

    def false_positives(self, images: int, confidence: float = 0.95) -> tuple[int, int]:
        """Between which numbers of so many new clean images the rejected ones lie, with that probability."""
        from scipy.stats import betabinom  # a second to import

        side = (1 - confidence) / 2
        count: Any = betabinom(images, self.n + 1 - self.rank, self.rank)
        return int(count.ppf(side)), int(count.ppf(1 - side))


def check_statistic(name: str) -> None:
    """Refuse what cannot be measured.

    Raises:
        UsageError: with the closest name that can.
    """
    if name not in STATISTICS:
        raise UsageError(f"unknown statistic {name!r}", did_you_mean(name, STATISTICS))


def calibrate(values: Tensor, rate: float) -> tuple[float, int]:
    """The threshold and its rank.

    Args:
        values: (n,), the statistic of clean images.
        rate: of false positives, between 0 and 1.

    Raises:
        UsageError: no rate; or so few images that none of them is large enough.
        EvaluationError: the value at that rank is no number, or infinite.
    """
    if not 0 < rate < 1:
        raise UsageError(f"the false-positive rate is {rate:g}, but it lies between 0 and 1", "Example: --rate 0.05")
    n = len(values)
    rank = math.ceil((n + 1) * (1 - rate) - 1e-9)
    if rank > n:
        needed = math.ceil(1 / rate - 1 - 1e-9)
        raise UsageError(
            f"{n} clean calibration images cannot fix a threshold at a false-positive rate of {rate:g}",
            f"At least {needed} are needed (--calibration), or a larger --rate",
        )
    value = float(values.double().sort().values[rank - 1])  # NaN comes last
    if not math.isfinite(value):
        bad = int((~values.isfinite()).sum())
        raise EvaluationError(
            f"the statistic of {bad} of {n} clean calibration images is NaN or infinite, and so is the threshold at a "
            f"false-positive rate of {rate:g}",
            "The network has no finite gradient there, e.g. at a square root of 0. Calibrate on other images "
            "(--calibrate-on), or choose another --statistic",
        )
    return value, rank


def beside(model: LoadedModel) -> Path:
    """Return the file that keeps the threshold of a model, next to the model's own.

    Raises:
        UsageError: the model is in no file.
    """
    if not model.source.path:
        raise UsageError(f"{model.name} is in no file, so its card has no place for a threshold")
    path = Path(model.source.path)
    return path.with_name(path.name.removesuffix(path.suffix) + SUFFIX)


def write_threshold(threshold: Threshold, path: Path) -> None:
    """Write it to a temporary name, then rename.

    Raises:
        UsageError: the file cannot be written.
    """
    try:
        write_text(path, threshold.model_dump_json(by_alias=True, indent=2) + "\n")
    except OSError as error:
        raise UsageError(f"cannot write {path} ({error.strerror})", "Name a file with --store FILE") from None


def read_threshold(path: Path, model: LoadedModel, statistic: str | None) -> Threshold:
    """A threshold that was stored, for this model and statistic.

    Raises:
        UsageError: there is none, or it is of another statistic.
        EvaluationError: it cannot be read, or is of another model.
    """
    try:
        found = Threshold.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError:
        raise UsageError(
            f"there is no threshold of {model.name} at {path}",
            f"Fix and store one first: robcert detect {model.source.reference} --store card",
        ) from None
    except (ValidationError, UnicodeDecodeError) as error:
        first = first_line(error)
        raise EvaluationError(f"{path} is no threshold of this version ({first})", "Store it again") from None
    if statistic is not None and found.statistic != statistic:
        raise UsageError(
            f"{path} holds a threshold of {found.statistic!r}, not of {statistic!r}",
            f"Leave --statistic out, or fix one: robcert detect {model.source.reference} --statistic {statistic}",
        )
    check_statistic(found.statistic)
    if found.sha256 != model.source.sha256:
        raise EvaluationError(
            f"{path} was fixed for another file of {found.model} (sha256 {found.sha256[:12]}, not "
            f"{model.source.sha256[:12]})",
            "Fix it again for this one",
        )
    return found
