"""One case at least for every op and form of the table: a small graph, its constants, and its input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_DRAW = np.random.default_rng(0)
IMAGE = (4, 6, 6)


def normal(*shape: int) -> np.ndarray:
    return _DRAW.normal(size=shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


@dataclass(frozen=True)
class Case:
    """Op(x, constants) for some of its versions.

    Attributes:
        versions: None for all that the table has.
        nodes: the whole graph, where the op alone cannot be one; otherwise ``y = op(x, *constants)``.
        gradient: whether it has one that finite differences can see.
        positive: whether the input must be positive.
        mixes: whether the answer for one image depends on the others.
        judge: an equal graph of other ops, where nobody has a kernel for this one.
    """

    op: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)
    versions: tuple[int, ...] | None = None
    shape: tuple[int, ...] = IMAGE
    nodes: tuple[Any, ...] | None = None
    gradient: bool = True
    positive: bool = False
    mixes: bool = False
    judge: Case | None = None


C = Case
_W = {"w": normal(6, 4, 3, 3), "b": normal(6)}
_PICK = {"gradient": False}

ACTIVATIONS = [
    *(C(n) for n in ("Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Mish",
                     "Softplus", "Softsign", "ThresholdedRelu", "Shrink", "Identity", "Gelu", "Swish")),
    C("Gelu", {"approximate": "tanh"}),
    C("LeakyRelu", {"alpha": 0.3}),
    C("Elu", {"alpha": 0.7}),
    C("Selu", {"alpha": 1.2, "gamma": 0.8}),
    C("Celu", {"alpha": 0.5}),
    C("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
    C("Swish", {"alpha": 1.7}),
    C("ThresholdedRelu", {"alpha": 0.3}),
    C("Shrink", {"lambd": 0.4, "bias": 0.1}),
    C("PRelu", constants={"slope": normal(4, 1, 1)}),
    C("PRelu", constants={"slope": normal(1)}, shape=(5,)),
    C("PRelu", constants={"slope": normal(4, 6, 6)}),
    C("Clip", {"min": -0.5, "max": 0.7}, versions=(6,)),
    C("Clip", constants={"low": np.float32(-0.5), "high": np.float32(0.7)}, versions=(11, 12, 13)),
    C("Clip", constants={"low": np.float32(0), "high": np.float32(6)}, versions=(13,)),
    C("Softmax"), C("Softmax", {"axis": 1}), C("LogSoftmax", {"axis": 1}), C("Softmax", shape=(5,)),
    C("Hardmax", {"axis": 1}, **_PICK),
    C("Dropout", {"ratio": 0.3}, versions=(7, 10)), C("Dropout", versions=(12, 13, 22)),
]  # fmt: skip

_UNARY = ("Abs", "Neg", "Exp", "Erf", "Sin", "Cos", "Tan", "Atan", "Asinh")
_POSITIVE = ("Log", "Sqrt", "Reciprocal")
# In version 6 all inputs have one shape.
_VARIADIC = {"Sum": (8, 13), "Max": (8, 12, 13), "Min": (8, 12, 13), "Mean": (8, 13)}
ARITHMETIC = [
    *(C(n) for n in _UNARY), *(C(n, positive=True) for n in _POSITIVE),
    *(C(n, **_PICK) for n in ("Sign", "Floor", "Ceil", "Round")),
    *(C(n, constants={"c": normal(4, 1, 1)}) for n in ("Add", "Sub", "Mul", "Div")),
    C("Add", constants={"c": np.float32(0.3)}), C("Mul", constants={"c": np.float32(0.3)}),
    C("Sub", nodes=(("Sub", ("c", "x"), ("y",), {}),), constants={"c": np.float32(1.5)}),
    C("Mul", nodes=(("Sigmoid", ("x",), ("s",), {}), ("Mul", ("x", "s"), ("y",), {}))),
    C("Mul", nodes=(("HardSigmoid", ("x",), ("s",), {"alpha": 1 / 6, "beta": 0.5}), ("Mul", ("s", "x"), ("y",), {}))),
    C("Mul", nodes=(("Mul", ("x", "x"), ("y",), {}),)),
    C("Div", nodes=(("Abs", ("x",), ("a",), {}), ("Add", ("a", "one"), ("d",), {}), ("Div", ("x", "d"), ("y",), {})),
      constants={"one": np.float32(1)}),
    C("Pow", constants={"p": np.float32(3)}), C("Pow", constants={"p": np.float32(2)}),
    C("Pow", constants={"p": np.float32(0.5)}, positive=True),
    C("Pow", constants={"p": np.abs(normal(6)) + 1}, positive=True),
    C("Mod", {"fmod": 1}, {"c": np.float32(0.7)}, **_PICK),
    *(C(n, constants={"c": normal(6)}, **_PICK) for n in ("Greater", "GreaterOrEqual", "Less", "LessOrEqual")),
    C("Equal", constants={"c": normal(6)}, versions=(11, 13, 19), **_PICK),
    C("Equal", nodes=(("Cast", ("x",), ("i",), {"to": 7}), ("Equal", ("i", "c"), ("y",), {})), constants={"c": ints(0)},
      versions=(7,), **_PICK),
    *(C(n, nodes=(("Greater", ("x", "c"), ("a",), {}), ("Less", ("x", "d"), ("b",), {}), (n, ("a", "b"), ("y",), {})),
        constants={"c": np.float32(-0.5), "d": np.float32(0.5)}, **_PICK) for n in ("And", "Or", "Xor")),
    C("Not", nodes=(("Greater", ("x", "c"), ("a",), {}), ("Not", ("a",), ("y",), {})), constants={"c": np.float32(0)},
      **_PICK),
    C("IsNaN", **_PICK),
    C("Where", nodes=(("Greater", ("x", "c"), ("a",), {}), ("Where", ("a", "x", "d"), ("y",), {})),
      constants={"c": np.float32(0), "d": np.float32(0.2)}, gradient=False),
    C("Where", nodes=(("Where", ("m", "x", "d"), ("y",), {}),), constants={"m": normal(6) > 0, "d": normal(6)}),
    *(C(n, nodes=((n, ("x", "c", "d"), ("y",), {}),), constants={"c": normal(6), "d": normal(4, 6, 6)}, versions=v)
      for n, v in _VARIADIC.items()),
    *(C(n, nodes=((n, ("x", "c"), ("y",), {}),), constants={"c": normal(6)}, versions=v) for n, v in _VARIADIC.items()),
    *(C(n, nodes=(("Tanh", ("x",), ("t",), {}), ("Sin", ("x",), ("s",), {}), (n, ("x", "t", "s"), ("y",), {})))
      for n in _VARIADIC),
]  # fmt: skip

LINEAR = [
    C("Gemm", {}, {"w": normal(5, 3), "b": normal(3)}, shape=(5,)),
    C("Gemm", {"transB": 1, "alpha": 0.5, "beta": 2.0}, {"w": normal(3, 5), "b": normal(1, 3)}, shape=(5,)),
    C("Gemm", {"transB": 1}, {"w": normal(3, 5)}, versions=(11, 13), shape=(5,)),
    C("Gemm", {"transA": 1}, nodes=(("Gemm", ("w", "x", "b"), ("z",), {"transA": 1, "transB": 1}),
                                    ("Transpose", ("z",), ("y",), {})),
      constants={"w": normal(5, 3), "b": normal(3, 1)}, shape=(5,)),
    C("MatMul", {}, {"w": normal(6, 3)}), C("MatMul", {}, {"w": normal(4, 6, 2)}),
    C("MatMul", nodes=(("MatMul", ("x", "x"), ("y",), {}),)),
    C("Einsum", {"equation": "bchw, wk -> bchk"}, {"w": normal(6, 3)}),
    C("Einsum", {"equation": "...hw,...kw->...hk"}, nodes=(("Einsum", ("x", "x"), ("y",), {"equation":
      "...hw,...kw->...hk"}),)),
]  # fmt: skip

CONVOLUTION = [
    C("Conv", {"pads": [1, 1, 1, 1]}, _W),
    C("Conv", {"pads": [0, 1, 2, 1], "strides": [2, 1]}, _W),
    C("Conv", {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, {"w": _W["w"]}),
    C("Conv", {"auto_pad": "SAME_LOWER", "strides": [2, 2]}, _W),
    C("Conv", {"auto_pad": "VALID"}, _W),
    C("Conv", {"dilations": [2, 1], "group": 2, "kernel_shape": [3, 3]}, {"w": normal(6, 2, 3, 3)}),
    C("Conv", {"pads": [1, 0]}, {"w": normal(3, 4, 3)}, shape=(4, 9)),
    C("Conv", {"pads": [1, 1, 1, 1, 1, 1]}, {"w": normal(3, 2, 3, 3, 3)}, shape=(2, 4, 4, 4)),
    C("ConvTranspose", {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}, {"w": normal(4, 3, 3, 3)}),
    C("ConvTranspose", {"strides": [2, 2], "pads": [0, 1, 1, 0]}, {"w": normal(4, 3, 3, 3), "b": normal(3)}),
    C("ConvTranspose", {"dilations": [2, 2], "group": 2}, {"w": normal(4, 3, 3, 3)}),
    C("ConvTranspose", {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, {"w": normal(4, 3, 3, 3)}),
    C("ConvTranspose", {"auto_pad": "SAME_LOWER", "strides": [2, 2]}, {"w": normal(4, 3, 3, 3)}),
    C("ConvTranspose", {"output_shape": [12, 12], "strides": [2, 2]}, {"w": normal(4, 3, 3, 3)}),
]

_CEIL = (10, 11, 12, 22)
POOLING = [
    C("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    C("MaxPool", {"kernel_shape": [3, 3], "pads": [0, 1, 1, 0], "strides": [2, 1]}),
    C("MaxPool", {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    C("MaxPool", {"kernel_shape": [3, 2], "strides": [2, 3], "ceil_mode": 1, "pads": [1, 1, 1, 1]}, versions=_CEIL),
    C("MaxPool", {"kernel_shape": [3, 3], "dilations": [2, 1]}, versions=_CEIL),
    C("MaxPool", {"kernel_shape": [2, 2], "strides": [3, 3], "ceil_mode": 1, "pads": [0, 0, 1, 1]}, versions=_CEIL),
    C("AveragePool", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    C("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}),
    C("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    C("AveragePool", {"kernel_shape": [3, 3], "pads": [0, 1, 2, 1], "strides": [2, 1]}),
    C("AveragePool", {"kernel_shape": [3, 3], "pads": [0, 1, 2, 1], "count_include_pad": 1}),
    C("AveragePool", {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    C("AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1, "pads": [1, 1, 1, 1]},
      versions=(19, 22)),
    C("AveragePool", {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}, versions=(10, 11, 19, 22),
      shape=(4, 7, 5)),
    C("AveragePool", {"kernel_shape": [2, 2], "dilations": [2, 2], "pads": [1, 1, 1, 1]}, versions=(19, 22)),
    C("AveragePool", {"kernel_shape": [3]}, shape=(4, 9)),
    C("LpPool", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    C("LpPool", {"kernel_shape": [3, 3], "p": 1, "pads": [1, 1, 1, 1]}),
    C("LpPool", {"kernel_shape": [2, 2], "p": 3}), C("LpPool", {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER"}),
    C("GlobalAveragePool"), C("GlobalMaxPool"),
    *(C("GlobalLpPool", {"p": p}, judge=C(f"ReduceL{p}", constants={"axes": ints(2, 3)})) for p in (1, 2)),
]  # fmt: skip

_CHANNELS = {"scale": normal(4), "bias": normal(4)}
# Of channel c the window is c and c + 1.
_EVEN_LRN = C("LRN", nodes=(
    ("Mul", ("x", "x"), ("q",), {}), ("Pad", ("q", "p"), ("w",), {}), ("Slice", ("w", "one", "five", "one"), ("r",), {}),
    ("Add", ("q", "r"), ("s",), {}), ("Mul", ("s", "share"), ("m",), {}), ("Add", ("m", "bias"), ("d",), {}),
    ("Sqrt", ("d",), ("e",), {}), ("Div", ("x", "e"), ("y",), {}),
), constants={"p": ints(0, 0, 0, 0, 0, 1, 0, 0), "one": ints(1), "five": ints(5), "share": np.float32(0.1),
              "bias": np.float32(2)})  # fmt: skip
NORMALISATION = [
    C("BatchNormalization", {"epsilon": 1e-3}, {**_CHANNELS, "mean": normal(4), "var": np.abs(normal(4))}),
    C("BatchNormalization", {}, {**_CHANNELS, "mean": normal(4), "var": np.abs(normal(4))}, shape=(4,)),
    C("InstanceNormalization", {"epsilon": 1e-3}, _CHANNELS),
    C("LayerNormalization", {"axis": -1}, {"scale": normal(6), "bias": normal(6)}),
    C("LayerNormalization", {"axis": 1, "epsilon": 1e-3}, {"scale": normal(4, 6, 6)}),
    C("LayerNormalization", {"axis": 2}, {"scale": normal(6), "bias": normal(6, 6)}),
    C("RMSNormalization", {"axis": -1}, {"scale": normal(6)}),
    C("GroupNormalization", {"num_groups": 2}, {"scale": normal(2), "bias": normal(2)}, versions=(18,)),
    C("GroupNormalization", {"num_groups": 2}, _CHANNELS, versions=(21,)),
    C("LRN", {"size": 3, "alpha": 0.1}),
    C("LRN", {"size": 2, "alpha": 0.2, "beta": 0.5, "bias": 2.0}, judge=_EVEN_LRN),
    C("MeanVarianceNormalization", mixes=True),
    C("MeanVarianceNormalization", {"axes": [2, 3]}),
    C("LpNormalization", {"axis": 1}),
    C("LpNormalization", {"axis": -1, "p": 1}),
]

_REDUCE = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum",
           "ReduceLogSumExp", "ReduceSumSquare")  # fmt: skip


def _reductions() -> list[Case]:
    found: list[Case] = []
    for name in _REDUCE:
        attributes, inputs = ((1, 11), (13,)) if name == "ReduceSum" else ((1, 11, 13), None)
        extremes = (1, 11, 12, 13) if name in ("ReduceMax", "ReduceMin") else attributes
        newer = inputs or ((18, 20) if name in ("ReduceMax", "ReduceMin") else (18, 28) if "Log" in name else (18,))
        positive = name in ("ReduceLogSum", "ReduceProd")
        for given, keep in (([2, 3], 1), ([-1], 0)):
            found.append(C(name, {"axes": given, "keepdims": keep}, versions=extremes, positive=positive))
            found.append(C(name, {"keepdims": keep}, {"axes": ints(*given)}, versions=newer, positive=positive))
        found.append(C(name, {"noop_with_empty_axes": 1}, {"axes": ints(1)}, versions=newer, positive=positive))
    return found


def _flat(*middle: Any) -> tuple[Any, ...]:
    return (("Shape", ("x",), ("s",), {}), *middle)


SHAPES = [
    C("Flatten"), C("Flatten", {"axis": 2}), C("Transpose", {"perm": [0, 2, 3, 1]}), C("Transpose", shape=(5,), mixes=True),
    C("Reshape", constants={"s": ints(0, -1)}), C("Reshape", constants={"s": ints(-1, 2, 72)}),
    C("Reshape", constants={"s": ints(0, 0, 36)}),
    C("Reshape", nodes=_flat(("Gather", ("s", "zero"), ("n",), {}), ("Unsqueeze", ("n",), ("m",), {"axes": [0]}),
                             ("Concat", ("m", "rest"), ("t",), {"axis": 0}), ("Reshape", ("x", "t"), ("y",), {})),
      constants={"zero": np.int64(0), "rest": ints(-1)}, versions=(5,)),
    C("Squeeze", {"axes": [2]}, versions=(1, 11), shape=(4, 1, 6)), C("Squeeze", shape=(4, 1, 6)),
    C("Squeeze", constants={"axes": ints(-2)}, versions=(13, 21, 23, 24, 25), shape=(4, 1, 6)),
    C("Unsqueeze", {"axes": [0, 3]}, versions=(1, 11)),
    C("Unsqueeze", constants={"axes": ints(1, -1)}, versions=(13, 21, 23, 24, 25)),
    C("Concat", {"axis": 1}, nodes=(("Relu", ("x",), ("r",), {}), ("Concat", ("x", "r"), ("y",), {"axis": 1}))),
    C("Split", {"axis": 1, "split": [1, 3]}, nodes=(("Split", ("x",), ("a", "y"), {"axis": 1, "split": [1, 3]}),),
      versions=(2, 11)),
    C("Split", nodes=(("Split", ("x",), ("a", "y"), {"axis": 2}),), versions=(2, 11, 13)),
    C("Split", nodes=(("Split", ("x", "s"), ("y", "b"), {"axis": -1}),), constants={"s": ints(2, 4)},
      versions=(13, 18)),
    C("Split", nodes=(("Split", ("x",), ("a", "b", "c", "y"), {"axis": 2, "num_outputs": 4}),), versions=(18,),
      shape=(4, 7, 6)),
    C("Slice", {"starts": [1, -3], "ends": [3, 99], "axes": [1, 2]}, versions=(1,)),
    C("Slice", constants={"a": ints(1, 5), "b": ints(99, 0), "c": ints(1, 3), "d": ints(2, -2)}, versions=(10, 11, 13)),
    C("Slice", constants={"a": ints(-1), "b": ints(-(2**62)), "c": ints(2), "d": ints(-1)}, versions=(10, 11, 13)),
    C("Gather", {"axis": 1}, {"i": ints(2, 0, -1)}), C("Gather", {"axis": 2}, {"i": np.int64(3)}),
    C("Gather", {"axis": 1}, {"i": ints(1, 2)}), C("Gather", {"axis": 3}, {"i": np.array([[0, 1], [5, 2]])}),
    C("Gather", nodes=_flat(("Gather", ("s", "zero"), ("n",), {}), ("Range", ("zero", "n", "one"), ("r",), {}),  # as_strided
      ("Mul", ("r", "entries"), ("o",), {}), ("Reshape", ("o", "column"), ("u",), {}), ("Add", ("u", "inner"), ("i",), {}),
      ("Reshape", ("x", "line"), ("f",), {}), ("Gather", ("f", "i"), ("y",), {})),
      constants={"zero": np.int64(0), "one": np.int64(1), "entries": np.int64(144), "column": ints(-1, 1, 1),
                 "inner": np.arange(144).reshape(1, 4, 36), "line": ints(-1)}, versions=(13,)),
    *(C("GatherND", nodes=(("Transpose", ("x",), ("t",), {"perm": [2, 3, 0, 1]}), ("GatherND", ("t", "i"), ("g",), {}),
        ("Transpose", ("g",), ("y",), {"perm": [i.ndim - 1, *range(i.ndim - 1), i.ndim]})), constants={"i": i},
        versions=(11, 12, 13)) for i in (np.array([[0, -1], [5, 2], [5, 2]]), np.array([[[1, 1], [3, 0]], [[4, -6], [2, 5]]]))),
    C("GatherND", nodes=(("Transpose", ("x",), ("t",), {"perm": [1, 0, 2, 3]}), ("GatherND", ("t", "i"), ("y",), {})),
      constants={"i": ints(2)}, versions=(11, 12, 13)),
    C("ScatterND", nodes=(("Transpose", ("x",), ("t",), {"perm": [2, 3, 0, 1]}), ("Slice", ("t", "a", "b", "axes"), ("u",), {}),
      ("Reshape", ("u", "s"), ("v",), {}), ("ScatterND", ("t", "i", "v"), ("g",), {}), ("Transpose", ("g",), ("y",), {"perm": [2, 3, 0, 1]})),
      constants={"a": ints(0, 1), "b": ints(1, 3), "axes": ints(0, 1), "s": ints(2, -1, 4), "i": np.array([[5, -1], [2, 3]])},
      versions=(13, 16, 18)),
    C("ScatterND", nodes=(("ScatterND", ("zeros", "i", "v"), ("g",), {}), ("Add", ("x", "g"), ("y",), {})), versions=(11, 13, 16, 18),
      constants={"zeros": np.zeros((4, 6, 6), np.float32), "i": np.array([[[0, 1], [3, -1]]]), "v": np.ones((1, 2, 6), np.float32)}),
    C("GatherElements", nodes=_flat(("Slice", ("s", "zero", "one"), ("n",), {}), ("Concat", ("n", "rest"), ("t",), {"axis": 0}),
      ("Expand", ("i", "t"), ("j",), {}), ("GatherElements", ("x", "j"), ("y",), {"axis": 1})),
      constants={"zero": ints(0), "one": ints(1), "rest": ints(2, 6, 6), "i": np.array([[[[1]], [[-1]]]])}),
    C("GatherElements", nodes=(("TopK", ("x", "k"), ("v", "i"), {"axis": 2}),
      ("GatherElements", ("x", "i"), ("y",), {"axis": 2})), constants={"k": ints(3)}),
    C("ScatterElements", nodes=(("TopK", ("x", "k"), ("v", "i"), {"axis": 2}), ("Neg", ("v",), ("w",), {}),
      ("ScatterElements", ("x", "i", "w"), ("y",), {"axis": 2})), constants={"k": ints(3)}, versions=(11, 13, 16, 18)),
    C("ScatterElements", nodes=(("ScatterElements", ("zeros", "i", "u"), ("z",), {"axis": -1}), ("Add", ("x", "z"), ("y",), {})),
      constants={"zeros": np.zeros((4, 6, 6), np.float32), "i": np.array([[[0, -1], [3, 2]]]), "u": np.ones((1, 2, 2), np.float32)},
      versions=(13, 18)),
    C("Pad", {"pads": [0, 0, 1, 2, 0, 1, 0, 1], "value": 0.5}, versions=(2,)),
    C("Pad", {"pads": [0, 0, 1, 2, 0, 0, 1, 1], "mode": "reflect"}, versions=(2,)),
    C("Pad", constants={"p": ints(0, 0, 1, 2, 0, 1, 0, -1), "v": np.float32(0.5)}, versions=(11, 13, 18, 19, 21, 23, 24, 25)),
    *(C("Pad", {"mode": m}, {"p": ints(0, 0, 1, 2, 0, 0, 1, 1)}, versions=(11, 13, 18, 19)) for m in ("reflect", "edge")),
    *(C("Pad", {"mode": m}, {"p": ints(0, 2, 1, 2, 0, 1, 1, 1)}, versions=(13, 18, 19)) for m in ("reflect", "edge")),
    C("Pad", {"mode": "wrap"}, {"p": ints(0, 0, 1, 2, 0, 0, 1, 1)}, versions=(19, 21)),
    C("Pad", nodes=(("Pad", ("x", "p", "", "a"), ("y",), {}),), constants={"p": ints(1, 0, 0, 2), "a": ints(-1, 2)},
      versions=(18, 19, 21, 23, 24, 25)),
    C("Expand", constants={"s": ints(1, 4, 3, 6)}, shape=(4, 1, 6)), C("Tile", constants={"r": ints(1, 2, 1, 3)}),
    C("DepthToSpace", {"blocksize": 2}), C("DepthToSpace", {"blocksize": 2, "mode": "CRD"}, versions=(11, 13, 28)),
    C("SpaceToDepth", {"blocksize": 2}),
    C("Trilu", {"upper": 0}), C("Trilu", {}, {"k": np.int64(1)}),
    C("CumSum", {}, {"axis": np.int64(1)}),
    *(C(n, {"axis": 1, "keepdims": 0}, **_PICK) for n in ("ArgMax", "ArgMin")),
    C("TopK", {"axis": 1}, nodes=(("TopK", ("x", "k"), ("y", "i"), {"axis": 1}),), constants={"k": ints(2)}),
    C("TopK", {"axis": 1}, nodes=(("TopK", ("x", "k"), ("y", "i"), {"axis": -1, "largest": 0}),),
      constants={"k": ints(2)}, versions=(11, 24)),
]  # fmt: skip

_LINEAR = {"mode": "linear"}
_NONE = {"roi": np.zeros(0, np.float32)}
_UP = {"scales": np.array([1, 1, 2, 2], np.float32)}
_DOWN = {"scales": np.array([1, 1, 0.7, 1.6], np.float32)}


def _resizes() -> list[Case]:
    new = (11, 13, 18, 19)
    found = [
        C("Upsample", {"scales": [1.0, 1.0, 2.0, 3.0]}, versions=(7,)),
        C("Upsample", {"scales": [1.0, 1.0, 2.0, 2.0], "mode": "linear"}, versions=(7,)),
        C("Upsample", constants=_UP, versions=(9,)), C("Upsample", _LINEAR, _UP, versions=(9,)),
        C("Resize", constants=_DOWN, versions=(10,)), C("Resize", _LINEAR, _DOWN, versions=(10,)),
    ]  # fmt: skip
    for coordinates in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"):
        for scales in (_UP, _DOWN):
            attributes = {"coordinate_transformation_mode": coordinates, "mode": "linear"}
            found.append(C("Resize", attributes, {**_NONE, **scales}, versions=new))
    for rounding in ("round_prefer_floor", "floor", "ceil", "round_prefer_ceil"):
        for coordinates in ("half_pixel", "asymmetric"):
            attributes = {"coordinate_transformation_mode": coordinates, "nearest_mode": rounding}
            for scales in (_UP, _DOWN):
                found.append(C("Resize", attributes, {**_NONE, **scales}, versions=new))
    sizes = {"zero": ints(0), "two": ints(2), "rest": ints(9, 4)}
    whole = _flat(("Slice", ("s", "zero", "two"), ("n",), {}), ("Concat", ("n", "rest"), ("t",), {"axis": 0}))
    node = ("Resize", ("x", "", "", "t"), ("y",), {**_LINEAR, "coordinate_transformation_mode": "half_pixel"})
    axes = ("Resize", ("x", "", "", "s"), ("y",), {**_LINEAR, "axes": [2, 3]})
    found.append(C("Resize", nodes=(*whole, node), constants=sizes, versions=(13, 18, 19)))
    found.append(C("Resize", nodes=(axes,), constants={"s": ints(9, 4)}, versions=(18, 19)))
    return found


def _with(op: str, *nodes: Any, gradient: bool = True, **constants: np.ndarray) -> Case:
    return C(op, nodes=nodes, constants=constants, gradient=gradient)


CONSTANTS = [
    _with("Constant", ("Constant", (), ("c",), {"value": None}), ("Add", ("x", "c"), ("y",), {})),
    _with("ConstantOfShape", ("Shape", ("x",), ("s",), {}), ("ConstantOfShape", ("s",), ("c",), {}),
          ("Add", ("x", "c"), ("y",), {})),
    _with("Range", ("Range", ("a", "b", "c"), ("r",), {}), ("Add", ("x", "r"), ("y",), {}),
          a=np.float32(0), b=np.float32(3), c=np.float32(0.5)),
    _with("Range", ("Range", ("a", "b", "c"), ("r",), {}), ("Gather", ("x", "r"), ("y",), {"axis": 2}),
          a=np.int64(5), b=np.int64(0), c=np.int64(-2)),
    _with("Shape", ("Shape", ("x",), ("s",), {}), ("Gather", ("s", "last"), ("w",), {}), ("Cast", ("w",), ("f",), {"to": 1}),
          ("Sqrt", ("f",), ("m",), {}), ("Mul", ("x", "m"), ("y",), {}), last=np.int64(-1)),
    _with("Size", ("Relu", ("k",), ("r",), {}), ("Size", ("r",), ("s",), {}), ("Cast", ("s",), ("f",), {"to": 1}),
          ("Mul", ("x", "f"), ("y",), {}), k=normal(3, 5)),
    _with("EyeLike", ("EyeLike", ("k",), ("e",), {"k": 1}), ("MatMul", ("x", "e"), ("y",), {}), k=normal(6, 6)),
    _with("NonZero", ("NonZero", ("k",), ("i",), {}), ("Squeeze", ("i",), ("j",), {}),
          ("Gather", ("x", "j"), ("y",), {"axis": 1}), k=np.array([1, 0, 1, 0], np.float32)),
    _with("Cast", ("Cast", ("x",), ("i",), {"to": 7}), ("Cast", ("i",), ("y",), {"to": 1}), gradient=False),
    _with("CastLike", ("CastLike", ("k", "x"), ("f",), {}), ("Add", ("x", "f"), ("y",), {}), k=ints(1, 2, 3, 4, 5, 6)),
]  # fmt: skip

_QUANT = {"s": np.float32(0.05), "z": np.int8(3)}
QUANTISATION = [
    C(n, nodes=(("QuantizeLinear", ("x", "s", "z"), ("q",), {}), ("DequantizeLinear", ("q", "s", "z"), ("y",), {})),
      constants=_QUANT, gradient=False) for n in ("QuantizeLinear", "DequantizeLinear")
] + [
    C(n, nodes=(("QuantizeLinear", ("x", "s", "z"), ("q",), {"axis": 1}),
                ("DequantizeLinear", ("q", "s", "z"), ("y",), {"axis": 1})),
      constants={"s": np.abs(normal(4)) * 0.1 + 0.01, "z": np.array([3, 120, 9, 200], np.uint8)}, gradient=False,
      versions=(13, 19, 21, 23, 24, 25)) for n in ("QuantizeLinear", "DequantizeLinear")
]  # fmt: skip

_HEADS = {"q_num_heads": 2, "kv_num_heads": 2}
ATTENTION = [
    C("Attention", nodes=(("Relu", ("x",), ("v",), {}), ("Attention", ("x", "x", "v"), ("y",), {})), shape=(2, 5, 4)),
    C("Attention", nodes=(("Relu", ("x",), ("v",), {}), ("Attention", ("x", "x", "v"), ("y",),
                                                         {**_HEADS, "scale": 0.7, "is_causal": 1})), shape=(5, 8)),
]  # fmt: skip

CASES: list[Case] = [
    *ACTIVATIONS, *ARITHMETIC, *LINEAR, *CONVOLUTION, *POOLING, *NORMALISATION, *_reductions(), *SHAPES, *_resizes(),
    *CONSTANTS, *QUANTISATION, *ATTENTION,
]  # fmt: skip
