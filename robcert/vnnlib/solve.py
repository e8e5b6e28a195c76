"""`solve`: sat with a counterexample, unsat with a proof, or unknown."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from robcert.errors import EvaluationError, UsageError, did_you_mean
from robcert.network import load_model
from robcert.types import LoadedModel
from robcert.vnnlib import Property, Region
from robcert.vnnlib.outputs import Head, head_of
from robcert.vnnlib.parse import read_vnnlib
from robcert.vnnlib.prove import Proof, proven
from robcert.vnnlib.search import holds, search

Answer = Literal["sat", "unsat", "unknown"]
Load = Callable[..., LoadedModel]


@dataclass(frozen=True)
class Solution:
    """The answer to a property.

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


def solve_all(
    models: list[str],
    path: Path,
    output_format: str,
    *,
    seed: int = 0,
    device: str = "cpu",
    load: Load = load_model,
) -> str:
    """Return what the command prints: the answers for all models, for a person or as JSON."""
    if output_format not in ("console", "json"):
        raise UsageError(f"unknown format {output_format!r}", did_you_mean(output_format, ["console", "json"]))
    found = [(model, solve(model, path, seed=seed, device=device, load=load)) for model in models]
    if output_format == "console":
        return "\n".join(solution.as_text() for _, solution in found)
    answers = [{"model": model, **asdict(solution)} for model, solution in found]
    return json.dumps({"schema": "robcert.vnnlib/1", "property": str(path), "answers": answers}, indent=2)


def solve(reference: str, path: Path, **others: Any) -> Solution:
    """The answer to one property: see `solutions`, which takes the same arguments."""
    return solutions(reference, [path], **others)[0]


def solutions(
    reference: str,
    paths: Sequence[Path],
    *,
    iterations: int = 200,
    restarts: int = 64,
    seed: int = 0,
    device: str = "cpu",
    load: Load = load_model,
) -> list[Solution]:
    """Attack properties of the outputs of a file, then try to prove each; the network is loaded once.

    Args:
        reference: the model, as `robcert.network.load_model` takes it.
        paths: VNN-LIB files.
        iterations: of the attack, from each starting point.
        restarts: starting points in each region.
        seed: of the starting points.
        device: where the network is attacked.
        load: loads the network: `load_model`, or that with what a file without a card does not say.

    Raises:
        UsageError: a file cannot be read, or the property is about a network of another size.
        EvaluationError: the model or the property cannot be evaluated, or the file has outputs that robcert cannot
            tell apart or compute.
    """
    props = [read_vnnlib(path) for path in paths]
    regions = [region for prop in props for region in prop.regions]
    low, high = min((min(r.low) for r in regions), default=0.0), max((max(r.high) for r in regions), default=1.0)
    model = load(reference, box=(low, high if high > low else low + 1.0), device=device)
    for prop, path in zip(props, paths, strict=True):
        _check_sizes(model, prop, path)
    file = _File.of(model)
    return [_solved(model, file, prop, iterations=iterations, restarts=restarts, seed=seed) for prop in props]


def _solved(model: LoadedModel, file: _File, prop: Property, *, iterations: int, restarts: int, seed: int) -> Solution:
    began = time.monotonic()
    ordered = [_ordered(model, region) for region in prop.regions]
    found = (
        (region, search(model, region, file.head, iterations=iterations, restarts=restarts, seed=seed))
        for region in ordered
    )
    noted = ""
    for region, x in found:
        if x is not None:
            y = file.outputs(x)
            if bool(holds(region, y)[0]):
                return _sat(model, file, x, y, began)
            noted = f" (a counterexample of robcert was not confirmed by {file.runtime})"
    proof = (
        proven(model, Property(tuple(ordered), prop.inputs, prop.outputs), file.head)
        if file.exact
        else Proof(False, "the file computes with half precision, of which nothing is proven")
    )
    for region, x in proof.candidates:
        y = file.outputs(x)
        if bool(holds(region, y)[0]):
            return _sat(model, file, x, y, began)
    if proof.holds and noted:
        raise EvaluationError(
            f"{proof.reason}, and an input contradicts it{noted}", "Please report this with both files."
        )
    if proof.holds:
        return Solution("unsat", (), (), "", proof.reason, time.monotonic() - began)
    tried = f"{restarts} starting points of {iterations} steps found nothing; {proof.reason}{noted}"
    return Solution("unknown", (), (), "", tried, time.monotonic() - began)


def _sat(model: LoadedModel, file: _File, x: torch.Tensor, y: torch.Tensor, began: float) -> Solution:
    inputs = (x.movedim(1, -1) if _channels_last(model) else x).flatten().tolist()
    reason = "a counterexample was found" + ("" if file.runtime == "robcert" else " and confirmed")
    return Solution("sat", tuple(inputs), tuple(y[0].tolist()), file.runtime, reason, time.monotonic() - began)


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


@dataclass(frozen=True)
class _File:
    """Return what answers for a model: the file itself in onnxruntime where it is ONNX, else robcert's network.

    Attributes:
        head: what makes its outputs of the logits that robcert's network gives.
        runtime: what executes it.
        exact: whether it computes with float32 at least, as the proof assumes.
        outputs: (1, *input_shape) -> (1, outputs).
    """

    head: Head
    runtime: str
    exact: bool
    outputs: Callable[[torch.Tensor], torch.Tensor]

    @staticmethod
    def of(model: LoadedModel) -> _File:
        """The file of a model.

        Raises:
            EvaluationError: it has several outputs, ends in an operator that is not read, or onnxruntime refuses it.
        """
        if model.source.format != "onnx":
            return _File("none", "robcert", True, torch.no_grad()(lambda x: model.module(x).cpu()))
        from robcert.network.deployed import Deployed

        deployed = Deployed(model, outputs=True)
        if len(deployed.names) != 1:
            raise EvaluationError(
                f"{model.name} has the outputs {', '.join(deployed.names)}, and a property speaks of one",
                "Write the file with that output alone.",
            )
        return _File(head_of(deployed.head, model.name), deployed.provider, not deployed.half, deployed)
