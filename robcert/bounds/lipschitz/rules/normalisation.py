"""Layers that divide by a computed length: a finite constant, usually a useless one."""

from __future__ import annotations

import math

from robcert.bounds.lipschitz.call import LipschitzCall, largest
from robcert.bounds.lipschitz.rules import rule
from robcert.bounds.lipschitz.values import Bounds, Value, product, root
from robcert.math.rounding import up

NOTE = "max |gamma| / sqrt(eps), reached by inputs that are constant over the normalised entries"


@rule("layer_norm", "native_layer_norm")
def layer_norm(call: LipschitzCall) -> Value | list[Value | None]:
    """Normalises over the last axes."""
    n = math.prod(int(s) for s in call["normalized_shape"])
    value = _normalised(call, n)
    return value if call.op == "layer_norm" else [value, None, None]


@rule("group_norm")
def group_norm(call: LipschitzCall) -> Value:
    """Normalises over each group of channels and the axes behind."""
    x = call.x
    return _normalised(call, math.prod(x.shape[1:]) // int(call["num_groups"]))


@rule("instance_norm")
def instance_norm(call: LipschitzCall) -> Value:
    """Normalises each channel by its own statistics, or by running ones."""
    x = call.x
    if not call["use_input_stats"]:
        from robcert.bounds.lipschitz.rules.linear import batch_norm

        return batch_norm(call)
    call.ignore("running_mean", "running_var", "momentum")  # statistics that it does not use
    return _normalised(call, math.prod(x.shape[2:]))


@rule("rms_norm")
def rms_norm(call: LipschitzCall) -> Value:
    """x / sqrt(mean(x^2) + eps): the same constant."""
    n = math.prod(int(s) for s in call["normalized_shape"])
    return _normalised(call, n, 2.0**-23 if call["eps"] is None else float(call["eps"]))


def _normalised(call: LipschitzCall, n: int, eps: float | None = None) -> Value:
    """gamma (x - mean) / sqrt(variance + eps) over n entries.

    The Jacobian is gamma / sigma (P - u u^T / n) with sigma >= sqrt(eps), the projection P along the mean and
    u the normalised entries, ||u||^2 <= n: a symmetric matrix between 0 and P, so its l2 norm is at most 1. A
    matrix of n columns has l1 and l-infinity norms of at most sqrt n times that.
    """
    weight = call.constant("weight")
    if "bias" in call.given:
        call.constant("bias")  # it moves nothing
    eps = float(call["eps"]) if eps is None else eps
    if eps <= 0:
        return call.infinite("its eps is 0")
    factor = 1.0 if weight is None else largest(weight)
    l2 = product(factor, up(1 / math.sqrt(eps), 3))
    wide = product(root(float(n)), l2)
    if n == 1 and call.op != "rms_norm":
        return call.nonlinear(call.x, Bounds(0.0, 0.0, 0.0), row=call.op)
    return call.nonlinear(call.x, Bounds(l2, wide, wide), row=call.op, note=NOTE)
