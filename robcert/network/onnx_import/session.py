"""onnxruntime: the network that is deployed, to compare with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robcert.errors import EvaluationError, first_line
from robcert.network.onnx_import.read import nodes
from robcert.network.onnx_import.signature import Signature
from robcert.network.onnx_import.table import DOMAINS, version_of


class Session:
    """A session of onnxruntime over a model in memory.

    Args:
        model: the ``onnx.ModelProto``, with all data inside.
        found: its signature.
        outputs: the names of the tensors that it answers with.
        device: "cpu", or "cuda" for the CUDA provider where there is one.
        optimise: as a deployed model is run; False keeps every tensor of the graph.

    Attributes:
        provider: the provider that really runs the graph.

    Raises:
        EvaluationError: onnxruntime does not take the model.
    """

    def __init__(
        self, model: Any, found: Signature, outputs: Sequence[str], *, device: str = "cpu", optimise: bool = True
    ) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        if not optimise:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        providers: list[Any] = ["CPUExecutionProvider"]
        if device.startswith("cuda") and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            preload = getattr(onnxruntime, "preload_dlls", None)  # the libraries of CUDA that torch brought
            if preload is not None:
                preload()
            # TF32 multiplies with ten bits: that would be another network.
            providers.insert(0, ("CUDAExecutionProvider", {"use_tf32": "0"}))

        _check_domains(model)
        model = _with_outputs(model, outputs)

        def start(proto: Any) -> Any:
            return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=providers)

        try:
            try:
                self.session = start(model)
            except Exception as error:
                older = _older(model, str(error))
                if older is None:
                    raise
                self.session = start(older)
        except EvaluationError:
            raise
        except Exception as error:  # onnxruntime has exceptions of its own for every failure
            raise EvaluationError(f"onnxruntime does not take the model: {first_line(error)}") from error
        self.provider = str(self.session.get_providers()[0])
        self.found, self.outputs = found, list(outputs)
        kind = self.session.get_inputs()[0].type
        self.dtype = {"tensor(float16)": np.float16, "tensor(double)": np.float64}.get(kind, np.float32)

    def __call__(self, x: Tensor) -> list[Tensor]:
        """Return the outputs for images (n, *input_shape), channels first.

        Images are given one after the other to a graph for one image; its answers are put together again.

        Raises:
            EvaluationError: onnxruntime cannot execute the graph.
        """
        declared = x.movedim(1, -1) if self.found.channels_last else x
        array = declared.detach().cpu().numpy().astype(self.dtype)
        size = self.found.fixed or len(array)
        rest = (-len(array)) % size
        padded = np.concatenate([array, np.repeat(array[-1:], rest, axis=0)]) if rest else array
        batches = (padded[start : start + size] for start in range(0, len(padded), size))
        try:
            parts = [self.session.run(self.outputs, {self.found.name: batch}) for batch in batches]
        except Exception as error:
            raise EvaluationError(f"onnxruntime cannot execute the model: {first_line(error)}") from error
        columns = [
            [torch.from_numpy(np.atleast_1d(np.asarray(one))) for one in column] for column in zip(*parts, strict=True)
        ]
        return [torch.cat(column)[: len(array)] if self.found.fixed else column[0] for column in columns]


def _with_outputs(model: Any, names: Sequence[str]) -> Any:
    """Return a copy of the model that returns these tensors, without what the file says of a session.

    It may carry options that the environment can switch on (profiling writes files).
    """
    import onnx

    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    declared = {value.name: value for value in model.graph.output}
    del copied.graph.output[:], copied.metadata_props[:]
    copied.graph.output.extend(declared.get(name, onnx.ValueInfoProto(name=name)) for name in names)
    return copied


_RUNS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
_REACHES = ("PythonOp", "PythonOpGrad", "EPContext", "ATen", "TritonOp", "YieldOp", "Send", "Recv", "RecordEvent")
"""Operators of onnxruntime that call Python or other libraries, or read files, in the builds that have them."""


def _check_domains(model: Any) -> None:
    """Only operators that compute go to onnxruntime, and no tensor that lies elsewhere.

    Raises:
        EvaluationError: there is another one; it is named.
    """
    own = {function.domain for function in model.functions}
    for node in nodes(model):
        if node.op_type in _REACHES or node.domain not in (*_RUNS, *own):
            called = f"{node.domain}.{node.op_type}".strip(".")
            raise EvaluationError(
                f"the node {node.name or called!r} is {called}, an operator that robcert does not give to onnxruntime"
            )


def _older(model: Any, said: str) -> Any | None:
    """Return the same model in the newest opset that onnxruntime reads; None where it failed for another reason.

    A number in front of a graph changes nothing for ops that kept their form.

    Raises:
        EvaluationError: an op has got another form since.
    """
    found = re.search(r"official support for domain ai\.onnx is till opset (\d+)", said)
    if found is None:
        return None
    newest, lowered = int(found[1]), type(model)()
    lowered.CopyFrom(model)
    for holder in (lowered, *lowered.functions):
        opset = next((entry for entry in holder.opset_import if entry.domain in DOMAINS), None)
        if opset is None or opset.version <= newest:
            continue
        for node in nodes(holder.graph if holder is lowered else holder):
            if node.domain in DOMAINS and version_of(node.op_type, opset.version) > newest:
                raise EvaluationError(
                    f"onnxruntime reads opsets up to {newest}, and the model uses {node.op_type} of a newer one",
                    f"Export it with opset {newest} or less.",
                )
        opset.version = newest
    return lowered
