"""`solve`: sat with a counterexample, unsat with a proof, or unknown."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch

from robcert.errors import EvaluationError, UsageError, did_you_mean
from robcert.network import load_model
from robcert.types import LoadedModel
from robcert.vnnlib import Property, Region
from robcert.vnnlib.parse import read_vnnlib
from robcert.vnnlib.prove import proven
from robcert.vnnlib.search import holds, search

Answer = Literal["sat", "unsat", "unknown"]


@dataclass(frozen=True)
class Solution:
    """What is known about a property.

    Attributes:
        result: "sat", "unsat" or "unknown".
        x: the counterexample, entry by entry in the order of the file's input; empty without one.
        y: the outputs there, of onnxruntime for an ONNX model.
        checked: what executed the counterexample ("CPUExecutionProvider"), or "robcert".
        reason: why, in a sentence.
        seconds: what it took.
    """

    result: Answer
    x: tuple[float, ...]
    y: tuple[float, ...]
    checked: str
    reason: str
    seconds: float

    def as_text(self) -> str:
        """The form of the competition: the result, then the counterexample as name and value in brackets."""
        if self.result != "sat":
            return self.result
        pairs = [f"(X_{i} {v:.9g})" for i, v in enumerate(self.x)] + [f"(Y_{i} {v:.9g})" for i, v in enumerate(self.y)]
        return "sat\n(" + "\n ".join(pairs) + ")"


def solve_all(models: list[str], path: Path, output_format: str, *, seed: int = 0, device: str = "cpu") -> str:
    """What the command prints: the answers for all models, for a person or as JSON."""
    if output_format not in ("console", "json"):
        raise UsageError(f"unknown format {output_format!r}", did_you_mean(output_format, ["console", "json"]))
    found = [(model, solve(model, path, seed=seed, device=device)) for model in models]
    if output_format == "console":
        return "\n".join(solution.as_text() for _, solution in found)
    answers = [{"model": model, **asdict(solution)} for model, solution in found]
    return json.dumps({"schema": "robcert.vnnlib/1", "property": str(path), "answers": answers}, indent=2)


def solve(
    reference: str,
    path: Path,
    *,
    iterations: int = 200,
    restarts: int = 64,
    seed: int = 0,
    device: str = "cpu",
) -> Solution:
    """Attack a property, then try to prove it.

    Args:
        reference: the model, as `robcert.network.load_model` takes it.
        path: the VNN-LIB file.
        iterations: of the attack, from each starting point.
        restarts: starting points in each region.
        seed: of the starting points.
        device: where the network is attacked.

    Raises:
        UsageError: a file cannot be read, or the property is about a network of another size.
        EvaluationError: the model or the property cannot be evaluated.
    """
    began = time.monotonic()
    prop = read_vnnlib(path)
    lows, highs = [min(r.low) for r in prop.regions], [max(r.high) for r in prop.regions]
    low, high = min(lows, default=0.0), max(highs, default=1.0)
    model = load_model(reference, box=(low, high if high > low else low + 1.0), device=device)
    _check_sizes(model, prop, path)
    noted = ""
    for region in prop.regions:
        found = search(model, _ordered(model, region), iterations=iterations, restarts=restarts, seed=seed)
        if found is None:
            continue
        with torch.no_grad():
            y, checked = _deployed(model, found)
        if bool(holds(region, y)[0]):
            x = (found.movedim(1, -1) if _channels_last(model) else found).flatten().tolist()
            reason = (
                "a counterexample was found and confirmed" if checked != "robcert" else "a counterexample was found"
            )
            return Solution("sat", tuple(x), tuple(y[0].tolist()), checked, reason, time.monotonic() - began)
        noted = f" (a counterexample of robcert was not confirmed by {checked})"
    certain, reason = proven(
        model, Property(tuple(_ordered(model, r) for r in prop.regions), prop.inputs, prop.outputs)
    )
    if certain and not noted:
        return Solution("unsat", (), (), "", reason, time.monotonic() - began)
    if certain:
        raise EvaluationError(f"{reason}, and an input contradicts it{noted}", "Please report this with both files.")
    tried = f"{restarts} starting points of {iterations} steps found nothing; {reason}{noted}"
    return Solution("unknown", (), (), "", tried, time.monotonic() - began)


def _check_sizes(model: LoadedModel, prop: Property, path: Path) -> None:
    entries = 1
    for size in model.input_shape:
        entries *= size
    if (prop.inputs, prop.outputs) != (entries, model.num_classes):
        raise UsageError(
            f"{path} is about {prop.inputs} inputs and {prop.outputs} outputs, and {model.name} has {entries} and "
            f"{model.num_classes}",
            "Give the network that the property was written for.",
        )


def _channels_last(model: LoadedModel) -> bool:
    return any(getattr(module, "channels_last", False) for module in model.module.modules())


def _ordered(model: LoadedModel, region: Region) -> Region:
    """The region with its inputs channels first, as robcert's network takes them."""
    if not _channels_last(model):
        return region
    channels, *sizes = model.input_shape
    ends = [
        torch.tensor(v, dtype=torch.float64).reshape(*sizes, channels).movedim(-1, 0) for v in (region.low, region.high)
    ]
    low, high = (tuple(end.flatten().tolist()) for end in ends)
    return Region(low, high, region.constraints)


def _deployed(model: LoadedModel, x: torch.Tensor) -> tuple[torch.Tensor, str]:
    """The outputs of the network as it is deployed: by onnxruntime where the model is ONNX."""
    if model.source.format != "onnx":
        return model.module(x).cpu(), "robcert"
    from robcert.network.deployed import Deployed

    deployed = Deployed.of(model)
    return deployed(x), deployed.provider
