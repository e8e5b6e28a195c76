"""Properties: sat with a counterexample that onnxruntime confirms, unsat with a proof, unknown otherwise."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import robcert
from robcert.errors import EvaluationError, UsageError
from robcert.network import export_onnx, from_module
from robcert.reports.verify import result_text
from robcert.runs.records.verify import AnswerRecord
from robcert.runs.verify import PLAN
from robcert.verification.parse import read_vnnlib
from robcert.verification.problem import inner


def linear_net() -> nn.Module:
    """f_0 = x_0 + x_1, f_1 = x_2 - x_3."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    layer = net[1]
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, -1]]))
        layer.bias.zero_()
    return net.eval()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("vnnlib") / "a.onnx"
    return str(export_onnx(from_module(linear_net(), (1, 2, 2), 2), path))


def solve(reference: str, path: Path, plan: str = PLAN) -> AnswerRecord:
    return robcert.verify(robcert.load_model(reference), path, timeout=30, plan=plan).answers[0]


def write(path: Path, low: float, high: float, *constraints: str) -> Path:
    lines = [f"(declare-const X_{i} Real)" for i in range(4)] + [f"(declare-const Y_{i} Real)" for i in range(2)]
    lines += [f"(assert (>= X_{i} {low}))  ; a comment\n(assert (<= X_{i} {high}))" for i in range(4)]
    path.write_text("\n".join([*lines, *constraints]))
    return path


def test_sat_with_a_counterexample_that_onnxruntime_confirms(model: str, tmp_path: Path) -> None:
    import onnxruntime

    # f_0 <= f_1: true at x = (0.1, 0.1, 0.9, 0.1), false at the centre and at most corners
    path = write(tmp_path / "p.vnnlib", 0.1, 0.9, "(assert (<= Y_0 Y_1))")
    found = solve(model, path)
    assert found.counterexample is not None
    assert (found.result, found.counterexample.runtime) == ("sat", "CPUExecutionProvider")
    text = result_text(found)
    assert text.startswith("sat\n((X_0 ")
    values = {name: float(value) for name, value in re.findall(r"\(([XY]_\d+) (\S+?)\)", text)}
    x = torch.tensor([values[f"X_{i}"] for i in range(4)], dtype=torch.float32)
    assert bool((x.double() >= 0.1).all() & (x.double() <= 0.9).all())
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    y: Any = session.run(None, {session.get_inputs()[0].name: x.reshape(1, 1, 2, 2).numpy()})[0]
    assert y[0, 0] <= y[0, 1]
    assert [values["Y_0"], values["Y_1"]] == pytest.approx(y[0].tolist(), abs=1e-6)


def test_unsat_by_a_lipschitz_bound(model: str, tmp_path: Path) -> None:
    # in the box of side 0.02 around 0.5, f_0 is near 1 and f_1 near 0
    path = write(tmp_path / "p.vnnlib", 0.49, 0.51, "(assert (<= Y_0 Y_1))")
    assert solve(model, path).result == "unsat"
    both = "(assert (or (and (<= Y_0 Y_1)) (and (<= Y_0 0.5) (>= Y_1 0.2)) (and (>= Y_1 3.0))))"
    assert solve(model, write(tmp_path / "q.vnnlib", 0.49, 0.51, both)).result == "unsat"
    impossible = write(tmp_path / "r.vnnlib", 0.49, 0.51, "(assert (<= X_0 0.1))", "(assert (<= Y_0 9.0))")
    assert solve(model, impossible).result == "unsat"


def test_unsat_on_a_trained_network(tmp_path: Path) -> None:
    data = robcert.load_dataset("digits", n=20, seed=0)
    x, label = data.x[0].flatten().tolist(), int(data.y[0])
    other = (label + 1) % 10
    lines = [f"(declare-const X_{i} Real)" for i in range(64)] + [f"(declare-const Y_{i} Real)" for i in range(10)]
    lines += [f"(assert (>= X_{i} {v - 0.01:.9f}))\n(assert (<= X_{i} {v + 0.01:.9f}))" for i, v in enumerate(x)]
    path = tmp_path / "p.vnnlib"
    path.write_text("\n".join([*lines, f"(assert (>= Y_{other} Y_{label}))"]))
    assert solve("digits-l2nnn", path, "pgd:20x4").result == "unsat"
    assert solve("digits-plain", path, "pgd:20x4").result == "unsat"


def test_constraints_that_exclude_each_other(model: str, tmp_path: Path) -> None:
    # In [0.1, 0.9], f_0 is at least 0.2 and f_1 at least -0.8. Each of the two constraints can hold; together they
    # want f_0 <= 0.175. In every part of the box that is small enough one of them fails.
    both = ("(assert (<= (+ Y_0 Y_1) -0.5))", "(assert (<= (+ Y_0 (* -1 Y_1)) 0.85))")
    path = write(tmp_path / "p.vnnlib", 0.1, 0.9, *both)
    assert solve(model, path, "pgd:20x4").result == "unsat"


def test_unknown_where_neither_is_found(model: str, tmp_path: Path) -> None:
    # The smallest sum is -0.6: a threshold nearer to it than the rounding of the network is left open.
    for bound, answer in ((-0.61, "unsat"), (-0.58, "sat"), (-0.6000002, "unknown")):
        one = write(tmp_path / "q.vnnlib", 0.1, 0.9, f"(assert (<= (+ Y_0 Y_1) {bound}))")
        assert solve(model, one).result == answer


CASES = [
    ("(assert (<= Y_0 Y_1)", "never closed"),
    ("(assert (<= Y_0 Y_7))", "Y_7 is not declared"),
    ("(assert (<= (* Y_0 Y_1) 1))", "multiplies two variables"),
    ("(assert (<= (+ X_0 Y_0) 1))", "only boxes of inputs"),
    ("(assert (maybe Y_0))", "is no constraint"),
    ("(declare-fun f)", "what does"),
    ("(assert (<= Y_0 nan))", "no finite number"),
    (")", "never opened"),
    ("(" * 200, "nested"),
    ("(assert (and " + "(or (<= Y_0 1) (<= Y_0 2)) " * 40 + "))", "more than 100,000 cases"),
]


@pytest.mark.parametrize(("text", "match"), CASES, ids=[match for _, match in CASES])
def test_bad_properties_are_explained(tmp_path: Path, text: str, match: str) -> None:
    path = write(tmp_path / "p.vnnlib", 0.0, 1.0, text)
    with pytest.raises(UsageError, match=match):
        read_vnnlib(path)


def test_bounds_and_sizes_are_needed(model: str, tmp_path: Path) -> None:
    path = tmp_path / "p.vnnlib"
    path.write_text("(declare-const X_0 Real)(declare-const Y_0 Real)(assert (<= X_0 1))(assert (<= Y_0 1))")
    with pytest.raises(UsageError, match="X_0 has no lower or no upper bound"):
        read_vnnlib(path)
    path.write_text("(declare-const X_0 Real)(declare-const Y_0 Real)(assert (<= X_0 1))(assert (>= X_0 0))")
    with pytest.raises(UsageError, match="about 1 inputs and 1 outputs"):
        solve(model, path)


def ending(path: Path, *last: Any, outputs: int = 1) -> str:
    """The file of `linear_net`, written with onnx itself, with nodes after its logits "z"."""
    from onnx import TensorProto, helper, numpy_helper, save

    weight = linear_net()[1].weight.detach().numpy().T  # type: ignore[index, union-attr]
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["z"]), *last]
    names = ["y", "z"][:outputs]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in names]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 2, 2])
    graph = helper.make_graph(nodes, "ending", [x], ends, [numpy_helper.from_array(weight.copy(), "w")])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return str(path)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Sigmoid"])
def test_a_property_speaks_of_the_outputs_of_the_file(tmp_path: Path, op: str) -> None:
    """In [0.1, 0.9] the logits are [0.2, 1.8] and [-0.8, 0.8]: other thresholds than those of the outputs."""
    from onnx import helper

    file = ending(tmp_path / "a.onnx", helper.make_node(op, ["z"], ["y"]))
    # z_0 - z_1 is least at (0.1, 0.1, 0.9, 0.1) with 0.2 - 0.8, and greatest at (0.9, 0.9, 0.1, 0.9) with 1.8 + 0.8.
    low, high = {
        "Softmax": (1 / (1 + math.exp(0.6)), 1 / (1 + math.exp(-2.6))),
        "LogSoftmax": (-math.log1p(math.exp(0.6)), -math.log1p(math.exp(-2.6))),
        "Sigmoid": (1 / (1 + math.exp(-0.2)), 1 / (1 + math.exp(-1.8))),
    }[op]
    margin = 0.05 if op == "Sigmoid" else 1e-3  # the bound through a sigmoid is that of its slope
    for constraint, answer in (
        (f"(>= Y_0 {high + margin})", "unsat"),
        (f"(>= Y_0 {high - margin})", "sat"),
        (f"(<= Y_0 {low - margin})", "unsat"),
        (f"(<= Y_0 {low + margin})", "sat"),
        ("(>= Y_0 2)", "unsat"),
        ("(and (>= Y_0 Y_1) (<= Y_0 2))", "sat"),
    ):
        found = solve(file, write(tmp_path / "p.vnnlib", 0.1, 0.9, f"(assert {constraint})"))
        assert found.result == answer, (constraint, found)
        if answer == "sat":
            assert found.counterexample is not None
            assert found.counterexample.y[0] is not None
            assert low - 1e-5 <= found.counterexample.y[0] <= high + 1e-5


def test_outputs_that_are_not_read_are_refused_by_name(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    soft = helper.make_node("Softmax", ["z"], ["s"])
    cast = helper.make_node("Cast", ["s"], ["y"], to=TensorProto.FLOAT)
    path = write(tmp_path / "p.vnnlib", 0.1, 0.9, "(assert (>= Y_0 2))")
    with pytest.raises(EvaluationError, match="ends in Softmax, Cast"):
        solve(ending(tmp_path / "cast.onnx", soft, cast), path)
    with pytest.raises(EvaluationError, match="outputs"):
        solve(ending(tmp_path / "two.onnx", helper.make_node("Softmax", ["z"], ["y"]), outputs=2), path)
    dropped = helper.make_node("Identity", ["s"], ["y"])
    assert solve(ending(tmp_path / "same.onnx", soft, dropped), path).result == "unsat"


def steep(path: Path, inputs: int, width: int, kind: type[nn.Module] = nn.ReLU) -> tuple[str, nn.Module]:
    """A file of a steep network of few inputs, and the network."""
    torch.manual_seed(3)
    layers = [nn.Linear(inputs, width), kind(), nn.Linear(width, width), kind(), nn.Linear(width, 2)]
    net = nn.Sequential(nn.Flatten(), *layers).eval()
    for layer in (one for one in layers if isinstance(one, nn.Linear)):
        layer.weight.data.mul_(2)
    return str(export_onnx(from_module(net, (1, 1, inputs), 2), path)), net


def asked(path: Path, inputs: int, bound: float) -> Path:
    """The property that Y_0 - Y_1 is at most ``bound`` somewhere in [0.1, 0.9]."""
    lines = [f"(declare-const X_{i} Real)(assert (>= X_{i} 0.1))(assert (<= X_{i} 0.9))" for i in range(inputs)]
    lines += [f"(declare-const Y_{j} Real)" for j in range(2)]
    path.write_text("\n".join([*lines, f"(assert (<= (- Y_0 Y_1) {bound!r}))"]))
    return path


@pytest.mark.parametrize("kind", [nn.ReLU, nn.Tanh])
def test_few_inputs_are_halved(tmp_path: Path, kind: type[nn.Module]) -> None:
    """The smallest value of the network is bracketed by a dense sample."""
    file, net = steep(tmp_path / "a.onnx", 3, 20, kind)
    y = net(0.1 + 0.8 * torch.rand(100_000, 1, 1, 3)).detach()
    least, most = float((y[:, 0] - y[:, 1]).min()), float((y[:, 0] - y[:, 1]).max())
    for share, answer in ((-0.15, "unsat"), (0.02, "sat")):
        found = solve(file, asked(tmp_path / "p.vnnlib", 3, least + share * (most - least)))
        assert found.result == answer
        assert answer == "sat" or found.by in ("gap", "halving")


def test_the_time_is_kept(tmp_path: Path) -> None:
    """Nine inputs are too many to be halved, and 300 steep ReLUs too many for two seconds."""
    file, net = steep(tmp_path / "a.onnx", 9, 150)
    y = net(0.1 + 0.8 * torch.rand(20_000, 1, 1, 9)).detach()
    bound = float((y[:, 0] - y[:, 1]).min()) - 2 * float((y[:, 0] - y[:, 1]).std())
    found = robcert.verify(robcert.load_model(file), asked(tmp_path / "p.vnnlib", 9, bound), timeout=2).answers[0]
    assert found.result == "timeout"
    assert 2 <= found.seconds <= 2.2


_TERMS = st.floats(-2, 2, width=32).map(lambda v: round(v, 3))


@given(st.lists(st.lists(st.tuples(_TERMS, _TERMS, _TERMS), min_size=1, max_size=3), min_size=1, max_size=3))
def test_cases_mean_what_the_formula_means(
    tmp_path_factory: pytest.TempPathFactory, clauses: list[list[tuple[float, float, float]]]
) -> None:
    """Conjunctions of disjunctions, against the formula itself at a grid of outputs."""
    path = tmp_path_factory.mktemp("p") / "p.vnnlib"
    atoms = [" ".join(f"(<= (+ (* {a} Y_0) (* {b} Y_1)) {c})" for a, b, c in clause) for clause in clauses]
    prop = read_vnnlib(write(path, 0.0, 1.0, *(f"(assert (or {clause}))" for clause in atoms)))
    from robcert.verification.problem import holds

    for y in itertools.product((-1.37, -0.21, 0.48, 1.71), repeat=2):
        wanted = all(any(a * y[0] + b * y[1] <= c for a, b, c in clause) for clause in clauses)
        point = torch.tensor([y], dtype=torch.float64)
        assert any(bool(holds(region, point)[0]) for region in prop.regions) == wanted


@given(st.lists(st.tuples(st.floats(-2, 2), st.floats(0, 1)), min_size=1, max_size=4))
def test_the_searched_box_lies_in_the_box(ends: list[tuple[float, float]]) -> None:
    low, high = (torch.tensor(v, dtype=torch.float64) for v in ([a for a, _ in ends], [a + b for a, b in ends]))
    found_low, found_high = inner(low, high)
    ordered = zip(low.tolist(), high.tolist(), found_low.double().tolist(), found_high.double().tolist(), strict=True)
    for a, b, c, d in ordered:
        if c < d:
            assert a <= c <= d <= b
        assert abs(c - a) <= 2e-7 * max(1, abs(a)) or a <= c <= b
