"""`load_onnx`: a file becomes a network that answers as onnxruntime does, or one clear error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from robcert.errors import EvaluationError
from robcert.network.onnx_import import limits
from robcert.network.onnx_import.builder import Builder
from robcert.network.onnx_import.fallback import RuntimeNetwork, fall_back
from robcert.network.onnx_import.network import OnnxNetwork
from robcert.network.onnx_import.parity import check_parity, sample
from robcert.network.onnx_import.parts import inlined_count
from robcert.network.onnx_import.read import read_onnx
from robcert.network.onnx_import.signature import Signature, signature
from robcert.network.onnx_import.values import Unsupported


def load_onnx(
    path: Path,
    input_shape: tuple[int, ...] | None = None,
    box: tuple[float, float] = (0.0, 1.0),
    images: Callable[[tuple[int, ...]], Tensor | None] | None = None,
    like: tuple[int, ...] | None = None,
    *,
    runtime: bool = False,
) -> OnnxNetwork | RuntimeNetwork:
    """Return the network in an ONNX file, compared with onnxruntime.

    Args:
        path: the file.
        input_shape: the shape of one image, channels first, where the file leaves sizes open.
        box: the smallest and the largest value of an input entry of the graph.
        images: gives images (n, *shape) as the graph takes them, for a shape; random ones in the box where it gives
            none.
        like: the shape of images that gives the sizes which neither the file nor ``input_shape`` says.
        runtime: where a node cannot be read, take onnxruntime as the network.

    Raises:
        UsageError: the shape of an image is not known, or does not fit.
        EvaluationError: the file is damaged, beyond the limits, or no classifier; a node cannot be read; the network
            answers differently from onnxruntime (the first node at which they part is named).
    """
    model = read_onnx(path)
    found = signature(model, path, input_shape, like)
    x = sample(found.input_shape, box, images(found.input_shape) if images else None)
    try:
        network = build(model, found, path)
        check_parity(network, model, found, path, x)
    except EvaluationError as error:
        if runtime:
            return fall_back(error, model, found, x)
        raise
    return network


def build(model: Any, found: Signature, path: Path) -> OnnxNetwork:
    """Return the network of a graph, not yet compared with anything.

    Raises:
        EvaluationError: a node cannot be read; the logits do not depend on the images, or not one by one.
    """
    functions = {(f.domain, f.name): f for f in model.functions}
    try:
        count = inlined_count(model.graph.node, functions)
        if count > limits.MOST_NODES:
            raise Unsupported(f"the graph has more than {limits.MOST_NODES:,} nodes ({count:,})")
        builder = Builder(functions, found.declared, found.fixed)
        scope = {t.name: builder.constant(t) for t in model.graph.initializer} | {found.name: builder.images}
        builder.nodes(model.graph.node, scope, {o.domain: o.version for o in model.opset_import})
        if found.logits not in scope or not scope[found.logits].computed:
            raise Unsupported("the logits do not depend on the images: the network is constant")
        logits = scope[found.logits]
        if logits.rank != 2 or logits.shape[0].per_image != 1 or logits.shape[0].fixed:
            sizes = ", ".join(str(s.at("n") if s.constant else f"{s.per_image} n + {s.fixed}") for s in logits.shape)
            raise Unsupported(
                f"its output has the shape ({sizes}) for n images, expected (n, classes)",
                "robcert evaluates classifiers: one row of logits an image."
                if found.fixed is None
                else f"The graph was written for {found.fixed} image(s): export it with a dynamic batch dimension.",
            )
    except EvaluationError as error:
        raise EvaluationError(f"{path}: {error.found}", error.do) from error
    network = builder.network(logits, found.input_shape, channels_last=found.channels_last)
    network.notices = tuple(dict.fromkeys((*found.notices, *network.notices)))
    return network
