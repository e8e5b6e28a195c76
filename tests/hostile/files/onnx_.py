"""ONNX files: data beside them, operators of others, names that are code, shapes without measure."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.hostile.files.good import card
from tests.hostile.table import Place, hostile

EXTERNAL = "onnx.ai: external data, location"
IR = "onnx.ai: IR specification"


def tensor() -> TensorProto:
    weight = np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32)
    return numpy_helper.from_array(weight, "w")


def model(
    nodes: Sequence[onnx.NodeProto] = (),
    weight: TensorProto | None = None,
    functions: Sequence[onnx.FunctionProto] = (),
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    """Flatten and a matrix, with nodes between the image `x` and what is flattened, `x0`, if any are given."""
    first = "x0" if nodes else "x"
    body = [*nodes, helper.make_node("Flatten", [first], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 8, 8])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])]
    graph = helper.make_graph(body, "g", inputs, outputs, [weight if weight is not None else tensor()])
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(one, 1) for one in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=list(functions))


def written(place: Place, what: onnx.ModelProto) -> Path:
    path = place.files / "model.onnx"
    path.write_bytes(what.SerializeToString())
    return path


def external(place: Place, **entries: str) -> Path:
    """The matrix is in another file; `entries` say where."""
    weight = tensor()
    (place.files / "weights.bin").write_bytes(weight.raw_data)
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in ({"location": "weights.bin"} | entries).items():
        weight.external_data.add(key=key, value=value)
    return written(place, model(weight=weight))


@hostile("onnx-external-parent", "onnx", "external data in the folder above", EXTERNAL, docs=True)
def _(place: Place) -> Path:
    (place.root / "secret").write_bytes(tensor().raw_data)
    return external(place, location="../secret")


@hostile("onnx-external-absolute", "onnx", "external data at an absolute path", EXTERNAL, docs=True)
def _(place: Place) -> Path:
    (place.root / "secret").write_bytes(tensor().raw_data)
    return external(place, location=str(place.root / "secret"))


@hostile("onnx-external-symlink", "onnx", "external data behind a link", EXTERNAL, docs=True)
def _(place: Place) -> Path:
    (place.root / "secret").write_bytes(tensor().raw_data)
    (place.files / "link.bin").symlink_to(place.root / "secret")
    return external(place, location="link.bin")


@hostile("onnx-external-link-to-folder", "onnx", "external data in a folder that is a link", EXTERNAL)
def _(place: Place) -> Path:
    (place.root / "secret").write_bytes(tensor().raw_data)
    (place.files / "sub").symlink_to(place.root)
    return external(place, location="sub/secret")


@hostile("onnx-external-negative", "onnx", "a negative offset", EXTERNAL, docs=True)
def _(place: Place) -> Path:
    return external(place, offset="-64", length="2560")


@hostile("onnx-external-length", "onnx", "a length of 10^18 bytes", EXTERNAL, cost=True)
def _(place: Place) -> Path:
    return external(place, length=str(10**18))


@hostile("onnx-external-fifo", "onnx", "external data that is a pipe nobody writes to", EXTERNAL, cost=True)
def _(place: Place) -> Path:
    os.mkfifo(place.files / "pipe.bin")
    return external(place, location="pipe.bin")


@hostile("onnx-domain", "onnx", "an operator of another domain", "onnx.ai: custom operators", docs=True)
def _(place: Place) -> Path:
    node = helper.make_node("PyOp", ["x"], ["x0"], domain="ai.onnx.contrib", module="canary", class_name="factory")
    return written(place, model([node], domains=["ai.onnx.contrib"]))


@hostile("onnx-aten", "onnx", "an ATen node that names save", "docs.pytorch.org torch.onnx: ONNX_ATEN", docs=True)
def _(place: Place) -> Path:
    node = helper.make_node("ATen", ["x"], ["x0"], domain="org.pytorch.aten", operator="save", filename=place.evidence)
    return written(place, model([node], domains=["org.pytorch.aten"]))


@hostile("onnx-names", "onnx", "names of nodes and values that are source code", IR, loads=True)
def _(place: Place) -> Path:
    code = f"x = {place.code}; y"
    found = model([helper.make_node("Relu", ["x"], [code], name=code), helper.make_node("Relu", [code], ["x0"])])
    found.graph.name = found.producer_name = code
    found.graph.doc_string = f"{{{{ {place.code} }}}}"
    return written(place, found)


@hostile("onnx-profiling", "onnx", "a session's options in the metadata: onnxruntime writes a profile", "onnxruntime.ai: ORT_LOAD_CONFIG_FROM_MODEL", control="runtime", loads=True, docs=True, environment=(("ORT_LOAD_CONFIG_FROM_MODEL", "1"),))  # fmt: skip
def _(place: Place) -> Path:
    found = model()
    helper.set_model_props(found, {"ort_config": json.dumps({"session_options": {"enable_profiling": 1}})})
    return written(place, found)


@hostile("onnx-card", "onnx", "a card in the metadata", "docs/models.md: cards", control="old_card", loads=True)
def _(place: Place) -> Path:
    found = model()
    text = json.dumps(card(architecture="canary:factory", options={}))
    helper.set_model_props(found, {"robcert": text, "robcert_card": text})
    return written(place, found)


def function(name: str, body: Sequence[onnx.NodeProto]) -> onnx.FunctionProto:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    return helper.make_function("f", name, ["a"], ["b"], body, opsets)


@hostile("onnx-function-recursion", "onnx", "a function that calls itself", IR, cost=True)
def _(place: Place) -> Path:
    body = [helper.make_node("loop", ["a"], ["b"], domain="f")]
    node = helper.make_node("loop", ["x"], ["x0"], domain="f")
    return written(place, model([node], functions=[function("loop", body)], domains=["f"]))


@hostile("onnx-function-doubling", "onnx", "40 functions, each calls the next one twice", IR, cost=True)
def _(place: Place) -> Path:
    made = [function("f40", [helper.make_node("Relu", ["a"], ["b"])])]
    for k in range(40):
        calls = [helper.make_node(f"f{k + 1}", [one], [two], domain="f") for one, two in (("a", "m"), ("m", "b"))]
        made.append(function(f"f{k}", calls))
    return written(place, model([helper.make_node("f0", ["x"], ["x0"], domain="f")], functions=made, domains=["f"]))


@hostile("onnx-huge-constant", "onnx", "ConstantOfShape of 10^15 entries", IR, cost=True)
def _(place: Place) -> Path:
    shape = helper.make_tensor("s", TensorProto.INT64, [2], [1 << 25, 1 << 25])
    nodes = [
        helper.make_node("Constant", [], ["s"], value=shape),
        helper.make_node("ConstantOfShape", ["s"], ["c"]),
        helper.make_node("ReduceSum", ["c"], ["r"]),
        helper.make_node("Add", ["x", "r"], ["x0"]),
    ]
    return written(place, model(nodes))


@hostile("onnx-huge-shape", "onnx", "a weight of 10^18 entries without bytes", IR, cost=True)
def _(place: Place) -> Path:
    weight = tensor()
    del weight.dims[:]
    weight.dims.extend([1 << 30, 1 << 30])
    return written(place, model(weight=weight))


@hostile("onnx-loop", "onnx", "a loop without end", IR, cost=True, seconds=3)
def _(place: Place) -> Path:
    yes = helper.make_tensor("t", TensorProto.BOOL, [], [True])
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c1"]), helper.make_node("Relu", ["v"], ["v1"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, ["n", 1, 8, 8]),
        ],
        [
            helper.make_tensor_value_info("c1", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v1", TensorProto.FLOAT, ["n", 1, 8, 8]),
        ],
    )
    nodes = [
        helper.make_node("Constant", [], ["t"], value=yes),
        helper.make_node("Loop", ["", "t", "x"], ["x0"], body=body),
    ]
    return written(place, model(nodes))


@hostile("onnx-terminal", "onnx", "names of a node and an operator that clear the terminal", "xterm ctlseqs: control sequences", docs=True)  # fmt: skip
def _(place: Place) -> Path:
    return written(place, model([helper.make_node("\x1b[2J", ["x"], ["x0"], name="\x1b]0;owned\x07\x9b2J")]))
