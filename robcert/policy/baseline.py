"""The baseline: which images stood, kept in the repository beside the policy."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field, ValidationError, field_validator

from robcert.errors import UsageError, first_line
from robcert.files import write_text
from robcert.policy.schema import Requirement
from robcert.runs.record import DataRecord, ImageRecord, Strict
from robcert.threats import threats
from robcert.types import ThreatNorm

_ANEW = "Write it anew: robcert gate --update-baseline"


class BaselineEntry(Strict):
    """The images that stood in one model under the attacks of one requirement."""

    model: str = Field(description="the name by which a later gate finds it")
    sha256: str = Field(description="of the model's file")
    requirement: str
    norm: ThreatNorm
    eps: float
    plan: str
    seed: int
    standing: list[int] = Field(description="indices of the images that stood")

    @field_validator("norm")
    @classmethod
    def _known_norm(cls, norm: ThreatNorm) -> ThreatNorm:
        if norm not in threats:
            raise ValueError(f"unknown norm {norm!r}")
        return norm


class Baseline(Strict):
    """The file of ``robcert gate --update-baseline``: images, and those of them that stood."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_: Literal["robcert.baseline/1"] = Field(default="robcert.baseline/1", alias="schema")
    version: str = Field(description="of robcert, that wrote it")
    data: DataRecord
    index: list[int] = Field(description="of all images")
    entries: list[BaselineEntry]

    def of(self, model: str, requirement: Requirement, plan: str, seed: int) -> dict[int, bool] | None:
        """Image index to whether it stood; None where the baseline has nothing about it.

        Raises:
            UsageError: it was measured with other attacks.
        """
        for entry in self.entries:
            if (entry.model, entry.requirement) != (model, requirement.name):
                continue
            there = (entry.norm, entry.eps, entry.plan, entry.seed)
            here = (requirement.norm, requirement.eps, plan, seed)
            if there != here:
                raise UsageError(
                    f"the baseline of {model} and {requirement.name!r} was measured with "
                    f"{entry.norm} {entry.eps:g} {entry.plan} (seed {entry.seed}), the policy asks for "
                    f"{requirement.norm} {requirement.eps:g} {plan} (seed {seed})",
                    _ANEW,
                )
            stood = set(entry.standing)
            return {index: index in stood for index in self.index}
        return None


def read_baseline(path: Path, data: DataRecord) -> Baseline:
    """Read a baseline of these images.

    Raises:
        UsageError: there is none, it cannot be read, or it is of other images.
    """
    try:
        found = Baseline.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"the baseline {path} cannot be read ({error.strerror})", _ANEW) from None
    except (ValidationError, UnicodeDecodeError) as error:
        first = first_line(error)
        raise UsageError(f"{path} is no baseline of this version ({first})", _ANEW) from None
    if found.data.sha256 != data.sha256:
        raise UsageError(
            f"the baseline {path} is of {found.data.n} images of {found.data.name} {found.data.split} (seed "
            f"{found.data.seed}), the policy asks for {data.n} of {data.name} {data.split} (seed {data.seed})",
            _ANEW,
        )
    return found


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Write it, in place of an older one.

    Raises:
        UsageError: the file cannot be written.
    """
    text = baseline.model_dump_json(by_alias=True, indent=1) + "\n"
    try:
        write_text(path, text)
    except OSError as error:
        raise UsageError(f"cannot write the baseline {path} ({error.strerror})") from None


def stood(image: ImageRecord) -> bool:
    """Return whether an image of a run at one budget stands."""
    return image.status in ("certified", "open")


def schema() -> str:
    """The JSON schema of `Baseline`: docs/schemas/baseline-1.json, as ``python -m robcert.policy.baseline`` prints."""
    return json.dumps(Baseline.model_json_schema(by_alias=True), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema())
