"""A graph that robcert cannot read, as a network all the same: onnxruntime answers, and nothing has a gradient."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from robcert.errors import EvaluationError
from robcert.network.onnx_import.parity import ParityError
from robcert.network.onnx_import.session import Session
from robcert.network.onnx_import.signature import Signature
from robcert.network.onnx_import.values import Unsupported


class RuntimeNetwork(nn.Module):
    """The network of an ONNX file, computed by onnxruntime on the CPU.

    Args:
        model: the ``onnx.ModelProto``, with all data inside.
        found: its `robcert.network.onnx_import.signature.Signature`.
        refused: what robcert says of the graph, and of which node.

    Attributes:
        input_shape: of one image, channels first.
        digest: of the file and its external data.
    """

    def __init__(self, model: Any, found: Signature, refused: str) -> None:
        super().__init__()
        self.input_shape: tuple[int, ...] = found.input_shape
        self.notices: tuple[str, ...] = found.notices
        self.refused = refused
        self.digest = hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
        self._runtime = Session(model, found, [found.logits])
        self.training = False

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits: (n, *input_shape) -> (n, classes) float32.

        Raises:
            EvaluationError: a graph of torch is asked for, or onnxruntime cannot execute it.
        """
        if isinstance(x, FakeTensor):
            raise EvaluationError(self.refused)
        if x.requires_grad:
            raise NotImplementedError(f"onnxruntime gives answers alone ({self.refused})")
        return self._runtime(x)[0].to(x.device, torch.float32)

    def __deepcopy__(self, memo: dict[int, Any]) -> RuntimeNetwork:
        """Return the network itself: it has no state that a copy could change, and a session cannot be copied."""
        return self


def fall_back(error: EvaluationError, model: Any, found: Signature, x: Tensor) -> RuntimeNetwork:
    """Return the network of a graph of which robcert cannot read a node.

    Args:
        error: what reading it ended with.
        model: the ``onnx.ModelProto``.
        found: its signature.
        x: images.

    Raises:
        EvaluationError: ``error``, where it is about something else than a node, or where onnxruntime does not run the
            file either.
    """
    cause = error.__cause__
    node = cause.node if isinstance(cause, Unsupported) else ""
    if not node and not isinstance(error, ParityError):
        raise error
    try:
        network = RuntimeNetwork(model, found, error.found if node in error.found else f"{error.found} (node {node})")
        with torch.no_grad():
            logits = network(x)
    except EvaluationError:
        raise error from None
    if logits.dim() != 2 or len(logits) != len(x) or logits.shape[1] < 2:
        raise error
    return network
