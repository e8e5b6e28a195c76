"""Random properties of small networks, against a grid that is fine enough for the slope of the network.

The networks are written with onnx itself, evaluated by onnxruntime, and their slopes are bounded by the product of the
absolute weights: nothing here comes from robcert but the answer.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper, save

import robcert
from robcert.runs.records.verify import AnswerRecord

HEADS = {"": 1.0, "Softmax": 0.5, "LogSoftmax": 2.0, "Sigmoid": 0.25}
"""The last operator -> how much it stretches l-infinity distances at most (Sigmoid: each entry)."""

ACTIVATIONS = {"Relu": 1.0, "Tanh": 1.0, "Sigmoid": 0.25, "LeakyRelu": 1.0, "Elu": 1.0}
GRID = {1: 4001, 2: 251, 3: 47}
"""Inputs -> points an axis."""

UNKNOWN = 0.1
"""At most this share of the properties that the grid decides may be left open."""

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class File:
    """A network on disk: its session, its sizes, and (inputs, outputs) bounds of its partial derivatives."""

    path: Path
    session: onnxruntime.InferenceSession
    inputs: int
    outputs: int
    slopes: Array

    def __call__(self, x: Array) -> Array:
        return np.asarray(self.session.run(None, {"x": x.astype(np.float32)})[0], np.float64)


def network(folder: Path, seed: int, head: str) -> File:
    """Gemm and an activation, once or twice, Gemm, and the head."""
    draw = np.random.default_rng(seed)
    inputs, outputs = int(draw.integers(1, 4)), int(draw.integers(2, 5))
    sizes = [inputs, *draw.integers(3, 7, size=int(draw.integers(1, 3))).tolist(), outputs]
    nodes, weights, slopes, name = [], [], np.eye(inputs), "x"
    for layer, (a, b) in enumerate(itertools.pairwise(sizes)):
        weight = (draw.standard_normal((a, b)) * 1.6 / np.sqrt(a)).astype(np.float32)
        weights += [
            numpy_helper.from_array(weight, f"w{layer}"),
            numpy_helper.from_array((0.3 * draw.standard_normal(b)).astype(np.float32), f"b{layer}"),
        ]
        nodes.append(helper.make_node("Gemm", [name, f"w{layer}", f"b{layer}"], [f"z{layer}"]))
        slopes, name = slopes @ np.abs(weight.astype(np.float64)), f"z{layer}"
        if layer < len(sizes) - 2:
            activation = str(draw.choice(list(ACTIVATIONS)))
            nodes.append(helper.make_node(activation, [name], [f"h{layer}"]))
            slopes, name = slopes * ACTIVATIONS[activation], f"h{layer}"
    if "Softmax" in head:
        slopes = np.broadcast_to(slopes.max(1, keepdims=True), slopes.shape)
    if head:
        nodes.append(helper.make_node(head, [name], ["y"]))
        name = "y"
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", s]) for n, s in (("x", inputs), (name, outputs))]
    model = helper.make_model(
        helper.make_graph(nodes, "random", ends[:1], ends[1:], weights),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    path = folder / f"{seed}.onnx"
    save(model, path)
    return File(
        path,
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]),
        inputs,
        outputs,
        1.0001 * HEADS[head] * slopes,
    )


@dataclass(frozen=True)
class Case:
    """A property in two forms: the file, and (coefficients, bound) of each constraint of each alternative.

    The outputs on the grid stand beside it, and how far other points are from the nearest one along each axis.
    """

    path: Path
    low: Array
    high: Array
    alternatives: list[list[tuple[Array, float]]]
    on_grid: Array
    apart: Array

    def margins(self, y: Array) -> Array:
        """How far each output is from a counterexample: at most 0 where it is one."""
        each = [np.stack([y @ a - b for a, b in constraints]).max(0) for constraints in self.alternatives]
        return np.stack(each).min(0)


def grid(file: File, low: Array, high: Array) -> tuple[Array, Array]:
    """Points of the box as float32 numbers, and how far every other point is from the nearest one, along each axis."""
    count = GRID[file.inputs]
    axes = [np.linspace(a, b, count).astype(np.float32) for a, b in zip(low, high, strict=True)]
    apart = np.array([np.diff(axis.astype(np.float64)).max() for axis in axes]) / 2 * 1.0001 + 1e-7
    return np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], 1), apart


def case(path: Path, file: File, seed: int) -> Case:
    """A box, and one to three constraints in one or two alternatives with thresholds in the range of the outputs.

    A threshold lies between the ends of what the outputs are in the box and a little beyond, and one in five is exactly
    an end of what onnxruntime computes on the grid.
    """
    draw = np.random.default_rng(10_000 + seed)
    width = draw.uniform(0.05, 0.6, file.inputs)
    low = draw.uniform(-1, 1, file.inputs)
    # float32 numbers as ends: the grid and robcert's box are the same.
    low, high = low.astype(np.float32).astype(np.float64), (low + width).astype(np.float32).astype(np.float64)
    points, apart = grid(file, low, high)
    y = file(points)
    alternatives = []
    for _ in range(int(draw.integers(1, 3))):
        constraints = []
        for _ in range(int(draw.integers(1, 4))):
            a = np.zeros(file.outputs)
            i, j = draw.permutation(file.outputs)[:2]
            kind = draw.choice(["one", "two", "sum"])
            a[i] = draw.choice([-1.0, 1.0])
            a[j] = 0.0 if kind == "one" else -a[i] if kind == "two" else round(float(draw.uniform(-2, 2)), 3)
            values = y @ a
            least, most = float(values.min()), float(values.max())
            if draw.random() < 0.2:
                bound = least
            elif kind == "two" and draw.random() < 0.5:
                bound = 0.0
            else:
                bound = least + float(draw.uniform(-0.3, 0.5)) * (most - least)
            constraints.append((a, bound))
        alternatives.append(constraints)
    lines = [f"(declare-const X_{i} Real)" for i in range(file.inputs)]
    lines += [f"(declare-const Y_{i} Real)" for i in range(file.outputs)]
    lines += [
        f"(assert (>= X_{i} {a!r}))\n(assert (<= X_{i} {b!r}))"
        for i, (a, b) in enumerate(zip(low.tolist(), high.tolist(), strict=True))
    ]
    parts = ["(and " + " ".join(text(a, b) for a, b in constraints) + ")" for constraints in alternatives]
    path.write_text("\n".join([*lines, "(assert (or " + " ".join(parts) + "))"]))
    return Case(path, low, high, alternatives, y, apart)


def text(a: Array, bound: float) -> str:
    """The constraint in one of its spellings."""
    named = [(i, float(v)) for i, v in enumerate(a) if v]
    if len(named) == 1 and named[0][1] == -1:
        return f"(>= Y_{named[0][0]} {-bound!r})"
    if len(named) == 2 and bound == 0.0 and named[0][1] == -named[1][1]:
        small, large = sorted(named, key=lambda one: -one[1])
        return f"(<= Y_{small[0]} Y_{large[0]})" if small[1] == 1 else f"(>= Y_{large[0]} Y_{small[0]})"
    return "(<= (+ " + " ".join(f"(* {v!r} Y_{i})" for i, v in named) + f") {bound!r})"


@dataclass(frozen=True)
class Judged:
    """A property, robcert's answer, and whether the grid has a counterexample or excludes one."""

    file: File
    asked: Case
    found: AnswerRecord
    broken: bool
    excluded: bool


def judged(count: int, each: int, folder: Path) -> Iterator[Judged]:
    """So many networks with so many properties each; half of the networks end in logits."""
    heads = ["", "Softmax", "", "LogSoftmax", "", "Sigmoid"]
    for number in range(count):
        file = network(folder, number, heads[number % len(heads)])
        cases = [case(folder / f"{number}-{k}.vnnlib", file, number * each + k) for k in range(each)]
        model = robcert.load_model(str(file.path))
        found = robcert.verify(model, [one.path for one in cases], timeout=3, plan="pgd:30x8").answers
        for asked, answer in zip(cases, found, strict=True):
            margins = asked.margins(asked.on_grid)
            between = (
                file.slopes.T @ asked.apart + 1e-5
            )  # how far an output is from that at the nearest point of the grid
            most = max(float(np.abs(a) @ between) for constraints in asked.alternatives for a, _ in constraints)
            excluded = bool(margins.min() > most)
            yield Judged(file, asked, answer, bool((margins <= 0).any()), excluded)


def check(count: int, each: int, folder: Path) -> None:
    """The answers are right, and few are left open."""
    answers: Counter[str] = Counter()
    decided = open_ = 0
    for one in judged(count, each, folder):
        name, result = one.asked.path, one.found.result
        assert not (one.broken and one.excluded), name
        if result == "unsat":
            assert not one.broken, f"{name} has a counterexample on the grid"
        if result == "sat":
            example = one.found.counterexample
            assert example is not None
            x = np.array([example.x], np.float32)
            assert ((one.asked.low <= x) & (x <= one.asked.high)).all()
            margin = float(one.asked.margins(one.file(x)).max())
            assert margin <= 1e-12, f"{name}: onnxruntime does not confirm {example.x}"
            assert not one.excluded, f"{name}: an impossible property was confirmed"
            assert example.y == pytest.approx(one.file(x)[0].tolist(), abs=1e-6)
            assert example.runtime == "CPUExecutionProvider"
        answers[result] += 1
        decided += one.broken or one.excluded
        open_ += result == "unknown" and (one.broken or one.excluded)
    total = count * each
    print(f"{total} properties: {dict(answers)}; the grid decides {decided}, of which {open_} were left open")
    assert decided >= 0.8 * total
    assert min(answers["sat"], answers["unsat"]) >= total / 8, answers
    assert open_ <= UNKNOWN * decided


@pytest.mark.parametrize(("networks", "each"), [(6, 10), pytest.param(30, 20, marks=pytest.mark.slow)])
def test_random_properties(tmp_path: Path, networks: int, each: int) -> None:
    check(networks, each, tmp_path)
