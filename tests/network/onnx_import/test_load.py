"""ONNX files as a user has them: loaded, refused, lifted to any batch, and never run as code."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from robcert.bounds.lipschitz.network_bound import graph_bound
from robcert.errors import EvaluationError, RobcertError, UsageError
from robcert.network import load_model, peek_card
from robcert.network.onnx_import import limits
from robcert.network.onnx_import.load import load_onnx

from ..conftest import CLASSES, SHAPE, images, residual_net, small_net
from .models import model_of, normal_classifier


def write(net: nn.Module, path: Path, *, dynamo: bool, any_batch: bool = True, opset: int = 17) -> Path:
    """By one of torch's exporters."""
    x = images(2 if any_batch else 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            sizes = ({0: torch.export.Dim("n", min=1)},) if any_batch else None
            torch.onnx.export(net, (x,), path, dynamo=True, dynamic_shapes=sizes, verbose=False, external_data=False)
        else:
            axes = {"x": {0: "n"}} if any_batch else None
            torch.onnx.export(net, (x,), path, dynamo=False, input_names=["x"], dynamic_axes=axes, opset_version=opset)
    return path


@pytest.mark.parametrize("make", [small_net, residual_net])
@pytest.mark.parametrize(("dynamo", "any_batch"), [(True, True), (True, False), (False, True), (False, False)])
def test_both_exporters(tmp_path: Path, make: Any, dynamo: bool, any_batch: bool) -> None:
    net = make()
    model = load_model(write(net, tmp_path / "a.onnx", dynamo=dynamo, any_batch=any_batch))
    assert (model.input_shape, model.num_classes, model.source.format) == (SHAPE, CLASSES, "onnx")
    for n in (1, 2, 7):
        assert torch.allclose(model.module(images(n)), net(images(n)), atol=1e-5)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in model.module.modules())  # folded
    assert not any(p.requires_grad for p in model.module.parameters())
    x = images(2).requires_grad_()
    reference = images(2).requires_grad_()
    (model.module(x) ** 2).sum().backward()
    (net(reference) ** 2).sum().backward()
    assert torch.allclose(x.grad, reference.grad, atol=1e-4)  # pyright: ignore


def test_the_suffix_plays_no_part_and_normalisation_is_compared_too(tmp_path: Path) -> None:
    net = small_net()
    path = write(net, tmp_path / "weights.bin", dynamo=False)
    model = load_model(path, mean=(0.5,), std=(0.25,), images=images(5))
    assert torch.allclose(model.module(images(3)), net((images(3) - 0.5) / 0.25), atol=1e-5)
    assert peek_card(path) is None or peek_card(path).input_shape is None  # pyright: ignore


def test_a_softmax_at_the_end_is_left_out(tmp_path: Path) -> None:
    net = small_net()
    for last in (nn.Softmax(1), nn.LogSoftmax(1)):
        path = write(nn.Sequential(net, last).eval(), tmp_path / "a.onnx", dynamo=False)
        model = load_model(path)
        assert torch.allclose(model.module(images()), net(images()), atol=1e-5)
        assert any("softmax" in text.lower() for text in model.warnings)


def save(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def test_channels_last_are_moved(tmp_path: Path) -> None:
    model = model_of(
        [("Transpose", ["x"], ["t"], {"perm": [0, 3, 1, 2]}), ("Flatten", ["t"], ["f"], {}),
         ("MatMul", ["f", "w"], ["y"], {})],
        ("n", 5, 5, 3), 13, {"w": np.random.default_rng(0).normal(size=(75, 4)).astype(np.float32)},
    )  # fmt: skip
    path = save(model, tmp_path / "keras.onnx")
    loaded = load_model(path)
    assert loaded.input_shape == (3, 5, 5)
    x = torch.rand(2, 3, 5, 5)
    weight = torch.from_numpy(onnx.numpy_helper.to_array(model.graph.initializer[0]))
    assert torch.allclose(loaded.module(x), x.flatten(1) @ weight, atol=1e-5)
    assert any("channels last" in text for text in loaded.warnings)


def test_open_sizes_are_asked_for(tmp_path: Path) -> None:
    nodes = [("GlobalAveragePool", ["x"], ["p"], {}), ("Flatten", ["p"], ["f"], {}), ("MatMul", ["f", "w"], ["y"], {})]
    path = save(model_of(nodes, ("n", 3, "h", "w"), 13, {"w": np.ones((3, 4), np.float32)}), tmp_path / "a.onnx")
    with pytest.raises(UsageError, match="3x\\?x\\?"):
        load_model(path)
    assert load_model(path, input_shape=(3, 7, 9)).input_shape == (3, 7, 9)
    with pytest.raises(UsageError, match="the data have 1x7x9"):
        load_model(path, input_shape=(1, 7, 9))


def test_quantised_networks_have_gradients(tmp_path: Path) -> None:
    q = {"s": np.float32(0.05), "z": np.int8(0)}
    nodes = [("QuantizeLinear", ["x", "s", "z"], ["q"], {}), ("DequantizeLinear", ["q", "s", "z"], ["d"], {}),
             ("Flatten", ["d"], ["f"], {}), ("MatMul", ["f", "w"], ["y"], {})]  # fmt: skip
    w = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    model = load_model(save(model_of(nodes, ("n", 1, 2, 2), 13, {**q, "w": w}), tmp_path / "a.onnx"))
    x = torch.rand(2, 1, 2, 2).requires_grad_()
    model.module(x).sum().backward()
    assert torch.allclose(x.grad, torch.from_numpy(w).sum(1).reshape(1, 1, 2, 2).expand(2, 1, 2, 2))  # pyright: ignore
    assert any("straight-through" in text for text in model.warnings)


def test_parts_of_a_network_in_functions_and_branches(tmp_path: Path) -> None:
    node = helper.make_node
    scale = helper.make_function("local", "Scale", ["a"], ["b"], [
        node("Constant", [], ["c"]), node("Mul", ["a", "c"], ["b"])], [helper.make_opsetid("", 17)], ["by"])  # fmt: skip
    reference = onnx.AttributeProto(name="value_float", ref_attr_name="by", type=onnx.AttributeProto.FLOAT)
    scale.node[0].attribute.append(reference)
    out = helper.make_tensor_value_info("r", TensorProto.FLOAT, None)
    branches = {"then_branch": helper.make_graph([node("Relu", ["s"], ["r"])], "a", [], [out]),
                "else_branch": helper.make_graph([node("Neg", ["s"], ["r"])], "b", [], [out])}  # fmt: skip
    model = model_of(
        [("Flatten", ["x"], ["f"], {})],
        ("n", 1, 2, 2),
        17,
        {"w": np.eye(4, 3, dtype=np.float32), "no": np.array(False)},
    )
    model.graph.node.extend([node("Scale", ["f"], ["s"], domain="local", by=3.0), node("If", ["no"], ["i"], **branches),
                             node("MatMul", ["i", "w"], ["y"])])  # fmt: skip
    model.functions.append(scale)
    model.opset_import.append(helper.make_opsetid("local", 1))
    x = torch.rand(3, 1, 2, 2)
    assert torch.allclose(load_model(save(model, tmp_path / "a.onnx")).module(x), -3 * x.flatten(1)[:, :3])


def refused(path: Path, match: str) -> RobcertError:
    with pytest.raises(RobcertError, match=match) as caught:
        load_model(path)
    return caught.value


def test_a_difference_names_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from robcert.network.onnx_import.table import converters
    from robcert.network.onnx_import.values import apply

    net = small_net()
    path = write(net, tmp_path / "a.onnx", dynamo=False)
    assert "Relu-14" in converters.names()
    monkeypatch.setitem(converters._entries, "Relu-14", lambda node: apply(torch.tanh, node.x))
    with pytest.raises(EvaluationError, match=r"answers differently in onnxruntime.* They part at node .*\(Relu\)"):
        load_onnx(path, box=(0.0, 1.0))
    model = load_model(path)
    assert "They part at node" in model.no_gradient
    with torch.no_grad():
        x = images()
        assert torch.allclose(model.module(x), net(x), atol=1e-5), "what onnxruntime says is taken"
    with pytest.raises(EvaluationError, match="They part at node"):
        graph_bound(model)


UNREADABLE: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    "unknown op": ([("Det", ["x"], ["y"], {})], {}, "does not read the ONNX op Det"),
    "loop": ([("Scan", ["x"], ["y"], {})], {}, "Scan"),
    "unknown attribute": ([("Relu", ["x"], ["y"], {"alpha": 0.2})], {}, "attribute 'alpha'"),
    "missing input": ([("Relu", ["nothing"], ["y"], {})], {}, "which nothing computes"),
    "no logits": ([("Relu", ["x"], ["y"], {})], {}, "expected \\(n, classes\\)"),
    "constant": ([("Relu", ["w"], ["y"], {})], {"w": np.ones((1, 3), np.float32)}, "do not depend on the images"),
    "huge": ([("Expand", ["x", "s"], ["y"], {})], {"s": np.array([1, 10**9, 4, 4])}, "entries, more than"),
    "no fit": ([("Expand", ["x", "s"], ["y"], {})], {"s": np.array([1, 1, 5, 4])}, "axis 2 has 4, not 5"),
    "huge constant": ([("ConstantOfShape", ["s"], ["y"], {})], {"s": np.array([10**15])}, "entries, more than"),
    "images mixed": ([("ReduceSum", ["x"], ["y"], {"keepdims": 1})], {}, "expected \\(n, classes\\)"),
    "sliced images": ([("Slice", ["x", "s", "e"], ["y"], {})], {"s": np.array([0]), "e": np.array([1])}, "some of the images"),
    "gathered images": ([("GatherND", ["x", "i"], ["y"], {})], {"i": np.array([[0], [0]])}, "some of the images"),
    "places outside": ([("Transpose", ["x"], ["t"], {"perm": [1, 2, 0, 3]}), ("GatherND", ["t", "i"], ["y"], {})],
                       {"i": np.array([[0, 4]])}, r"outside of \[1, 4\] entries"),
    "a place twice": ([("ScatterND", ["w", "i", "v"], ["z"], {}), ("Add", ["x", "z"], ["y"], {})],
                      {"w": np.zeros((4, 4), np.float32), "i": np.array([[1], [1]]), "v": np.ones((2, 4), np.float32)},
                      "a place is written twice"),
    "scattered sums": ([("ScatterND", ["w", "i", "v"], ["z"], {"reduction": "add"}), ("Add", ["x", "z"], ["y"], {})],
                       {"w": np.zeros((4, 4), np.float32), "i": np.array([[1]]), "v": np.ones((1, 4), np.float32)},
                       "reduction"),
    "summed entries": ([("ScatterElements", ["w", "i", "v"], ["z"], {"reduction": "add"}), ("Add", ["x", "z"], ["y"], {})],
                       {"w": np.zeros((4, 4), np.float32), "i": np.array([[1]]), "v": np.ones((1, 1), np.float32)},
                       "reduction"),
    "batches of places": ([("GatherND", ["x", "i"], ["y"], {"batch_dims": 1})], {"i": np.array([[0]])}, "batch_dims is 1"),
}  # fmt: skip


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_cannot_be_read_is_named(tmp_path: Path, kind: str) -> None:
    nodes, constants, match = UNREADABLE[kind]
    path = save(model_of(nodes, ("n", 1, 4, 4), 13, constants), tmp_path / "a.onnx")
    assert str(path) in refused(path, match).found


def test_other_opsets_and_domains(tmp_path: Path) -> None:
    model = normal_classifier()
    for opset in (6, 99):
        model.opset_import[0].version = opset
        refused(save(model, tmp_path / "a.onnx"), f"opset {opset}")
    model.opset_import[0].version = 13
    model.graph.node[0].domain = "com.microsoft"
    refused(save(model, tmp_path / "a.onnx"), "of the domain 'com.microsoft'")


def test_an_opset_that_onnxruntime_does_not_read_yet(tmp_path: Path) -> None:
    model = normal_classifier()
    model.opset_import[0].version = onnx.defs.onnx_opset_version()
    assert load_model(save(model, tmp_path / "a.onnx")).num_classes == 3
    model.graph.node[0].op_type = "Celu"  # which got another form in 28
    path = save(model, tmp_path / "a.onnx")
    try:
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception:
        refused(path, r"onnxruntime reads opsets up to \d+, and the model uses Celu of a newer one")
    else:
        assert load_model(path).num_classes == 3


def test_a_header_that_claims_too_much(tmp_path: Path) -> None:
    model = normal_classifier()
    model.graph.initializer[0].dims[:] = [10**8, 10**7]
    refused(save(model, tmp_path / "a.onnx"), "entries")
    model = normal_classifier()
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 10**9
    refused(save(model, tmp_path / "a.onnx"), f"more than the {limits.MOST_ENTRIES:,}")


def test_external_data_only_from_its_folder(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(10_000))
    path = tmp_path / "inner" / "a.onnx"
    onnx.save(normal_classifier(), str(path), save_as_external_data=True, location="a.bin", size_threshold=0)
    assert load_model(path).num_classes == 3
    (tmp_path / "inner" / "link").symlink_to(secret)
    for location in ("../secret", str(secret), "link", "gone", "", "a.bin/.."):
        model = onnx.load(str(path), load_external_data=False)
        for entry in model.graph.initializer[0].external_data:
            if entry.key == "location":
                entry.value = location
        refused(save(model, path), "external data|wants the data")
        onnx.save(normal_classifier(), str(path), save_as_external_data=True, location="a.bin", size_threshold=0)
    (tmp_path / "inner" / "a.bin").write_bytes(bytes(4))
    refused(path, "truncated|wants bytes")


def test_deep_and_exponential_graphs(tmp_path: Path) -> None:
    deep = b""
    for _ in range(300):  # a graph in an attribute of a node of a graph ...
        inner = b"\x0a" + _varint(len(deep)) + deep
        attribute = b"\x32" + _varint(len(inner)) + inner
        node = b"\x2a" + _varint(len(attribute)) + attribute
        deep = b"\x0a" + _varint(len(node)) + node
    path = tmp_path / "a.onnx"
    path.write_bytes(b"\x08\x08\x3a" + _varint(len(deep)) + deep)
    refused(path, "cannot be read|without a graph")
    model = normal_classifier()
    for depth in range(40):  # each function calls the one before it twice
        last = f"f{depth - 1}"
        calls = [
            helper.make_node(last, ["a"], ["b"], domain="local"),
            helper.make_node(last, ["b"], ["c"], domain="local"),
        ]
        body = calls if depth else [helper.make_node("Relu", ["a"], ["c"])]
        model.functions.append(helper.make_function("local", f"f{depth}", ["a"], ["c"], body, [
            helper.make_opsetid("", 13), helper.make_opsetid("local", 1)]))  # fmt: skip
    model.opset_import.append(helper.make_opsetid("local", 1))
    model.graph.node[0].CopyFrom(helper.make_node("f39", ["x"], ["r"], domain="local"))
    refused(save(model, path), "more than 20,000 nodes")


def test_names_that_are_no_text(tmp_path: Path) -> None:
    model = normal_classifier()
    content = model.SerializeToString()
    for name in (b"Relu", b"Flatten"):
        path = tmp_path / "a.onnx"
        path.write_bytes(content.replace(name, b"\xff" + name[1:]))
        refused(path, "is no UTF-8")


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def test_a_network_that_recurses_is_refused(tmp_path: Path) -> None:
    model = normal_classifier()
    body = [helper.make_node("f", ["a"], ["c"], domain="local")]
    model.functions.append(helper.make_function("local", "f", ["a"], ["c"], body, [helper.make_opsetid("local", 1)]))
    model.opset_import.append(helper.make_opsetid("local", 1))
    model.graph.node[0].CopyFrom(helper.make_node("f", ["x"], ["r"], domain="local"))
    with pytest.raises(EvaluationError, match="nested"):
        load_model(save(model, tmp_path / "a.onnx"))
