"""The comparison of the network that was read with onnxruntime, and the node from which on they differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robcert.errors import EvaluationError, first_line
from robcert.network.onnx_import.network import OnnxNetwork
from robcert.network.onnx_import.session import Session
from robcert.network.onnx_import.signature import Signature

TOLERANCE = 1e-4
"""Relative to the largest |logit| of the images: float32 executions agree to 1e-6, other networks do not."""

HALF = 2e-2
"""The same where the file computes with half precision, and robcert with float32."""

IMAGES = 16


class ParityError(EvaluationError):
    """The network that was read answers differently from onnxruntime."""


def check_parity(network: OnnxNetwork, model: Any, found: Signature, path: Path, x: Tensor) -> float:
    """Compare the logits of images, and those of the first of them alone.

    Returns:
        The largest difference, relative to the largest |logit|.

    Raises:
        EvaluationError: they differ by more than the tolerance; the first node that does is named.
    """
    (expected,) = Session(model, found, [found.logits])(x)
    half = computes_in_half(model)
    tolerance = HALF if half else TOLERANCE
    with torch.no_grad():
        batches = [x] if len(x) == 1 else [x, x[:1]]
        answers = [_run(network, batch, path) for batch in batches]
    difference = max(relative(a, expected[: len(a)]) for a in answers)
    if half:
        network.notices = (
            *network.notices,
            f"the model computes with half precision, robcert with float32; their logits differ by {difference:.1e} "
            "of the largest. --verify-with onnxruntime checks examples on the model itself.",
        )
    if not difference <= tolerance:
        raise ParityError(
            f"{path} answers differently in onnxruntime and in robcert, by {difference:.1e} of the largest |logit| "
            f"(allowed: {tolerance:g}). {first_difference(network, model, found, x)}",
            "Verdicts would not be about your model, so none are given. Please report the node.",
        )
    return difference


def sample(shape: tuple[int, ...], box: tuple[float, float], images: Tensor | None) -> Tensor:
    """Up to 16 images: those that are given, else random ones in the box."""
    if images is not None and len(images):
        return images[:IMAGES].detach().cpu().float()
    generator = torch.Generator().manual_seed(3)
    low, high = box
    return low + (high - low) * torch.rand(IMAGES, *shape, generator=generator)


def relative(found: Tensor, expected: Tensor) -> float:
    """Return the largest |difference| over the largest |entry| of ``expected``; infinite for NaN where none belongs."""
    if found.shape != expected.shape:
        return float("inf")
    found, expected = found.double(), expected.double()
    same = (found == expected) | (found.isnan() & expected.isnan())
    scale = expected[expected.isfinite()].abs().max() if expected.isfinite().any() else torch.tensor(0.0)
    difference = torch.where(same, torch.zeros_like(found), (found - expected).abs())
    worst = float(torch.nan_to_num(difference, float("inf")).max()) if difference.numel() else 0.0
    return worst / max(float(scale), 1e-30) if worst else 0.0


def first_difference(network: OnnxNetwork, model: Any, found: Signature, x: Tensor) -> str:
    """Return a sentence that names the first node at which the two executions part."""
    names = [name for node in model.graph.node for name in node.output if name in network.slots]
    try:
        one = x[: found.fixed or 1]
        expected = dict(zip(names, Session(model, found, names, optimise=False)(one), strict=True))
        ours = network.everything(one)
    except Exception as error:
        return f"Where they part could not be found: {first_line(error, 200)}"
    for node in model.graph.node:
        for name in node.output:
            if name in expected and not relative(ours[network.slots[name]], expected[name]) <= TOLERANCE:
                return (
                    f"They part at node {node.name or name!r} ({node.op_type}), whose result {name!r} differs by "
                    f"{relative(ours[network.slots[name]], expected[name]):.1e}."
                )
    return "No single node differs by that much: rounding adds up, or only whole batches differ."


def computes_in_half(model: Any) -> bool:
    """Return whether weights or images of the file are float16 or bfloat16."""
    kinds = {t.data_type for t in model.graph.initializer} | {i.type.tensor_type.elem_type for i in model.graph.input}
    return bool(kinds & {10, 16})


def _run(network: OnnxNetwork, x: Tensor, path: Path) -> Tensor:
    try:
        return network(x)
    except Exception as error:
        lines = str(error).strip().splitlines()
        raise EvaluationError(
            f"{path} does not run on {len(x)} image(s) in robcert: "
            f"{lines[-1][:300] if lines else type(error).__name__}",
            "Export the model with a dynamic batch dimension; if it has one, please report this.",
        ) from error
