"""ONNX models in a few lines, run by robcert and by onnxruntime (or the reference of ONNX, where that has no kernel)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from robcert.network.onnx_import.builder import Builder
from robcert.network.onnx_import.network import OnnxNetwork

Nodes = Sequence[tuple[str, Sequence[str], Sequence[str], Mapping[str, Any]]]


def model_of(
    nodes: Nodes,
    shape: Sequence[int | str | None],
    opset: int,
    constants: Mapping[str, np.ndarray] | None = None,
    output: str = "y",
) -> onnx.ModelProto:
    """A model of one float input ``x``; the type of its output is the one that ONNX infers."""
    graph = helper.make_graph(
        [helper.make_node(op, list(ins), list(outs), name=f"{op}_{i}", **attributes)
         for i, (op, ins, outs, attributes) in enumerate(nodes)],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_empty_tensor_value_info(output)],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in (constants or {}).items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    kind = onnx.shape_inference.infer_shapes(model, data_prop=True).graph.output[0].type.tensor_type.elem_type
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info(output, kind or TensorProto.FLOAT, None))
    return model


def network_of(model: onnx.ModelProto, output: str = "y", fixed: int | None = None) -> OnnxNetwork:
    """The network that robcert reads, whatever the shape of its answer."""
    shape = tuple(d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim[1:])
    builder = Builder({(f.domain, f.name): f for f in model.functions}, shape, fixed)
    scope = {t.name: builder.constant(t) for t in model.graph.initializer} | {"x": builder.images}
    builder.nodes(model.graph.node, scope, {o.domain: o.version for o in model.opset_import})
    return builder.network(scope[output], shape, channels_last=False)


def deployed(model: onnx.ModelProto, x: np.ndarray) -> tuple[np.ndarray, str]:
    """What onnxruntime answers, or the reference implementation of ONNX where it does not know the opset yet.

    Everything else that onnxruntime says against a model is an error of the case.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except onnxruntime.capi.onnxruntime_pybind11_state.Fail as error:
        if "under development" not in str(error):
            raise
        from onnx.reference import ReferenceEvaluator

        return np.asarray(ReferenceEvaluator(model).run(None, {"x": x})[0]), "reference"
    return session.run(None, {"x": x})[0], "onnxruntime"


def answer(network: OnnxNetwork, x: np.ndarray) -> Tensor:
    """What robcert answers."""
    with torch.no_grad():
        return network(torch.from_numpy(x))


def normal_classifier() -> onnx.ModelProto:
    """A small linear classifier of 1 x 4 x 4 images, in opset 13."""
    weight = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
    nodes: Nodes = [("Relu", ["x"], ["r"], {}), ("Flatten", ["r"], ["f"], {}), ("MatMul", ["f", "w"], ["y"], {})]
    return model_of(nodes, ("n", 1, 4, 4), 13, {"w": weight})
