"""Certificates of some images as a part of a run, and the parts put together."""

from __future__ import annotations

from dataclasses import replace

import torch

from robcert.certificates import Certificates
from robcert.certificates.search import OUT_OF_TIME
from robcert.search.snapshot import Snapshot

_TENSORS = ("radius", "radius_real", "gap", "prediction")
_META = ("method", "norm", "binding", "constants", "seconds", "refused", "confidence", "gained")
_ADDED = (OUT_OF_TIME, "samples_drawn", "abstained", "network_correct")
"""Constants that count images or samples; of the others, which are bounds or shares, the largest stands for all."""


def packed(found: Certificates) -> Snapshot:
    """Return certificates as tensors and JSON; what a record has no place for is left out."""
    tensors, meta = {}, {}
    for name, one in {"": found, **found.alone}.items():
        tensors |= {f"{name}/{key}": getattr(one, key).clone() for key in _TENSORS}  # safetensors refuses shared memory
        meta[name] = {key: getattr(one, key) for key in _META}
    return Snapshot(tensors, meta)


def unpacked(part: Snapshot) -> Certificates:
    """Return what `packed` was given."""
    ones: dict[str, Certificates] = {}
    for name, meta in part.meta.items():
        told = {key: meta[key] for key in _META}
        told["binding"] = tuple(told["binding"])
        told["gained"] = {method: tuple(counts) for method, counts in told["gained"].items()}
        ones[name] = Certificates(**{key: part.tensors[f"{name}/{key}"] for key in _TENSORS}, **told)
    whole = ones.pop("")
    return replace(whole, alone=ones)


def joined(parts: list[Certificates]) -> Certificates:
    """Return the certificates of all images from those of their parts, in order."""
    first = parts[0]
    if len(parts) == 1:
        return first
    names = list(dict.fromkeys(name for part in parts for name in part.alone))
    constants = list(dict.fromkeys(name for part in parts for name in part.constants))
    refused = next((part.refused for part in parts if part.refused), "")
    radius = torch.cat([part.radius for part in parts])
    return Certificates(
        method=first.method,
        norm=first.norm,
        radius=torch.zeros_like(radius) if refused else radius,
        radius_real=torch.cat([part.radius_real for part in parts]),
        gap=torch.cat([part.gap for part in parts]),
        prediction=torch.cat([part.prediction for part in parts]),
        binding=tuple(kind for part in parts for kind in part.binding),
        constants={name: _constant(name, parts) for name in constants},
        seconds=sum(part.seconds for part in parts),
        refused=refused,
        alone={name: joined([part.alone[name] for part in parts if name in part.alone]) for name in names},
        gained={
            name: tuple(map(sum, zip(*(part.gained[name] for part in parts if name in part.gained), strict=True)))
            for name in names
        },
        confidence=first.confidence,
    )


def _constant(name: str, parts: list[Certificates]) -> float:
    values = [part.constants[name] for part in parts if name in part.constants]
    return sum(values) if name in _ADDED else max(values)
