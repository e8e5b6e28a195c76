"""Entry by entry, after broadcasting."""

from __future__ import annotations

from typing import cast

from robcert.graph.batch import BatchCall, batch_rule, broadcast
from robcert.graph.batch_rules.axes import over
from robcert.graph.placement import BatchAxis, Placed


@batch_rule(
    *("abs", "alias", "alpha_dropout", "asinh", "atan", "ceil", "celu", "clone", "contiguous", "cos", "cosh", "detach"),
    *("dropout", "elu", "erf", "exp", "exp2", "expm1", "feature_dropout", "floor", "frac", "gelu", "hardshrink"),
    *("hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "lift_fresh_copy", "log", "log10", "log1p", "log2"),
    *("log_sigmoid", "mish", "native_dropout", "neg", "reciprocal", "relu", "relu6", "round", "rrelu", "rsqrt", "selu"),
    *("sgn", "sigmoid", "sign", "silu", "sin", "sinh", "softplus", "softshrink", "sqrt", "square", "tan", "tanh"),
    *("threshold", "trunc", "_to_copy", "add", "sub", "rsub", "mul", "div", "pow", "remainder", "fmod"),
    *("maximum", "minimum", "where", "eq", "ne", "lt", "le", "gt", "ge", "clamp", "clip", "clamp_min", "clamp_max"),
    *("masked_fill", "addcmul", "prelu"),
)
def entrywise(call: BatchCall) -> BatchAxis | None:
    """Entry by entry, after broadcasting: the images of all operands must meet along one axis of the result."""
    return broadcast(call, call.tensors, len(call.results[0].shape))


@batch_rule("max", "min")
def extreme(call: BatchCall) -> BatchAxis | list[BatchAxis | None] | None:
    """Of two tensors entry by entry, or over an axis."""
    return entrywise(call) if "other" in call.given else over(call)


@batch_rule("to", "type_as")
def typed(call: BatchCall) -> BatchAxis | None:
    """The same entries in the type of another tensor, whose entries play no part."""
    call.ignore("other")
    return call.kept(cast("Placed", call.given["self"]))
