"""Every op and form of the table against onnxruntime: values, and gradients against finite differences."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from robcert.network.onnx_import.table import converters, supported

from .cases import CASES, Case
from .models import answer, deployed, model_of, network_of

IMAGES = 3
TABLE = [
    (case, version)
    for case in CASES
    for version in supported()[case.op]
    if case.versions is None or version in case.versions
]


def _model(case: Case, version: int) -> onnx.ModelProto:
    nodes = case.nodes or ((case.op, ("x", *case.constants), ("y",), case.attributes),)
    opset = max(version, 7)
    if case.op == "Constant":
        value = onnx.numpy_helper.from_array(np.float32(0.7), "")
        nodes = (("Constant", (), ("c",), {"value": value}), *nodes[1:])
    return model_of(nodes, ("n", *case.shape), opset, case.constants)


def _input(case: Case) -> np.ndarray:
    x = np.random.default_rng(1).normal(size=(IMAGES, *case.shape)).astype(np.float32)
    return np.abs(x) + 0.1 if case.positive else x


@pytest.mark.parametrize(("case", "version"), TABLE, ids=[f"{c.op}-{v}-{i}" for i, (c, v) in enumerate(TABLE)])
def test_op(case: Case, version: int, record_property: pytest.RecordProperty) -> None:
    model, x = _model(case, version), _input(case)
    expected, by = deployed(model if case.judge is None else _model(case.judge, 18), x)
    record_property("by", by)
    network = network_of(model)
    found = answer(network, x)
    assert tuple(found.shape) == expected.shape
    if found.is_floating_point():
        assert np.allclose(found.numpy(), expected, rtol=1e-4, atol=2e-5)
    else:
        assert np.array_equal(found.numpy(), expected)
    assert found.numel()
    if not case.mixes:  # one image alone: any number of images goes
        one = answer(network, x[:1])
        assert torch.allclose(one.float(), found[: len(found) // IMAGES].float(), rtol=1e-4, atol=2e-5)
    if case.gradient:
        wide = network.double()
        images = torch.from_numpy(x[:2]).double().requires_grad_()
        assert torch.autograd.gradcheck(wide, images, eps=1e-6, atol=1e-4, rtol=1e-3, fast_mode=True)


def test_every_form_has_a_case() -> None:
    have = {f"{case.op}-{version}" for case, version in TABLE}
    assert have == set(converters.names())


def test_versions_are_those_of_the_standard() -> None:
    history: dict[str, set[int]] = {}
    withdrawn: set[tuple[str, int]] = set()
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "":
            history.setdefault(schema.name, set()).add(int(schema.since_version))
            withdrawn |= {(schema.name, int(schema.since_version))} if schema.deprecated else set()
    for name, versions in supported().items():
        assert set(versions) <= history[name], name
        # every form since the oldest opset is read: no gap in the middle, none at the end
        first = max((v for v in history[name] if v <= max(7, versions[0])), default=versions[0])
        missing = {v for v in history[name] if v >= first} - set(versions)
        assert all((name, v) in withdrawn for v in missing), (name, missing)
