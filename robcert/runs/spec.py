"""The specification of a run: all that decides its result, and a hash of it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from robcert.runs.plan import LegPlan
from robcert.runs.record import DataRecord, ModelSpec, RunSpec, TaskSpec, ThreatRecord
from robcert.types import Dataset, LoadedModel, Threat


def legs_of(spec: RunSpec) -> list[LegPlan]:
    """Return the legs of the plan."""
    return [LegPlan(leg.attack, leg.iterations, leg.restarts) for leg in spec.plan]


def seed_of(spec: RunSpec, leg: int) -> int:
    """Return the seed of a leg, which draws its own random starts."""
    return spec.seed + 7919 * leg


def threat_of(spec: RunSpec) -> Threat:
    """Return the threat."""
    return Threat(spec.threat.norm, tuple(spec.threat.eps), spec.threat.box)


def model_specs(models: Sequence[LoadedModel]) -> list[ModelSpec]:
    """Return the networks, with digests of file and network."""
    return [ModelSpec(name=model.name, sha256=model.source.sha256, network=model.source.network) for model in models]


def threat_record(threat: Threat) -> ThreatRecord:
    """Return a threat as records keep it."""
    return ThreatRecord(norm=threat.norm, eps=list(threat.eps), box=threat.box)


def data_record(data: Dataset) -> DataRecord:
    """Return the record of the images, with a digest of images and labels."""
    sha256 = tensor_digest(data.x, data.y)
    return DataRecord(
        name=data.name,
        split=data.split,
        n=len(data),
        seed=data.seed,
        sha256=sha256,
        shape=list(data.shape),
        class_order=None if data.class_order is None else dict(data.class_order),
        pipeline=data.pipeline,
    )


def digest(spec: RunSpec | TaskSpec) -> str:
    """SHA-256 of the canonical JSON of a spec."""
    return hashlib.sha256(json.dumps(spec.model_dump(), sort_keys=True).encode()).hexdigest()


def run_name(spec: RunSpec) -> str:
    """A directory name that a person recognises and that no other spec has."""
    names = "+".join(model.name for model in spec.models[:3])
    eps = ",".join(f"{value:g}" for value in spec.threat.eps)
    readable = re.sub(r"[^\w.,+-]+", "_", f"{spec.command}-{names}-{spec.threat.norm}-{eps}")
    return f"{readable[:80]}-{digest(spec)[:8]}"


def difference(saved: RunSpec | TaskSpec, asked: RunSpec | TaskSpec) -> list[str]:
    """Return one line for each thing in which two specs differ."""
    before, after = _flat(saved.model_dump()), _flat(asked.model_dump())
    return [
        f"{key}: there {before.get(key, 'not given')!s}, here {after.get(key, 'not given')!s}"
        for key in dict.fromkeys([*before, *after])
        if before.get(key) != after.get(key)
    ]


def tensor_digest(*tensors: Tensor) -> str:
    """SHA-256 of the bytes and shapes of some tensors."""
    sha = hashlib.sha256()
    for tensor in tensors:
        sha.update(str((tuple(tensor.shape), tensor.dtype)).encode())
        sha.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def _flat(content: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(content, dict):
        parts = content.items()
    elif isinstance(content, (list, tuple)) and content and isinstance(content[0], dict):
        parts = enumerate(content, 1)
    else:
        return {prefix: content}
    flat: dict[str, Any] = {}
    for key, value in parts:
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat
