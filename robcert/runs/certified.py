"""Certificates of some images as a part of a run."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import cast

from torch import Tensor

from robcert.certificates import Certificates, certificates
from robcert.certificates.best import LadderEvidence, Step
from robcert.certificates.effort import Effort
from robcert.search.snapshot import Snapshot

_TENSORS = ("radius", "radius_real", "gap", "prediction")
_META = ("method", "norm", "binding", "seconds", "refused")


def packed(found: Certificates) -> Snapshot:
    """Return certificates as tensors and JSON; what a record has no place for is left out."""
    tensors, meta = {}, {}
    steps = found.evidence.steps if isinstance(found.evidence, LadderEvidence) else {}
    for name, one in {"": found, **{name: step.found for name, step in steps.items()}}.items():
        tensors |= {f"{name}/{key}": getattr(one, key).clone() for key in _TENSORS}  # safetensors refuses shared memory
        if one.effort is not None:
            tensors |= {f"{name}/effort/{key}": value.clone() for key, value in vars(one.effort).items()}
        told = {key: value for key, value in vars(one.evidence).items() if key != "steps"}
        first = steps[name].first if name else ()
        meta[name] = {**{key: getattr(one, key) for key in _META}, "evidence": told, "first": first}
    return Snapshot(tensors, meta)


def unpacked(part: Snapshot) -> Certificates:
    """Return what `packed` was given."""
    ones: dict[str, Certificates] = {}
    for name, meta in part.meta.items():
        told = {key: meta[key] for key in _META}
        told["binding"] = tuple(told["binding"])
        evidence = certificates.get(meta["method"]).evidence(**meta["evidence"])
        tensors = {key: part.tensors[f"{name}/{key}"] for key in _TENSORS}
        efforts = {f.name: part.tensors.get(f"{name}/effort/{f.name}") for f in fields(Effort)}
        effort = None if None in efforts.values() else Effort(**cast("dict[str, Tensor]", efforts))
        ones[name] = Certificates(**tensors, **told, evidence=evidence, effort=effort)
    whole = ones.pop("")
    if not isinstance(whole.evidence, LadderEvidence):
        return whole
    steps = {name: Step(one, tuple(part.meta[name]["first"])) for name, one in ones.items()}
    return replace(whole, evidence=replace(whole.evidence, steps=steps))
