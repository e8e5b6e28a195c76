"""Activation functions that exporters take apart, put together again.

x * sigmoid(x) has no Lipschitz constant as a product of two things that depend on the image; as SiLU it has one. The
function is the same, and so are its gradients. (Two-sided ReLU and norm-pooling need nothing here: the Lipschitz
graph recognises them however they are written.)
"""

from __future__ import annotations

import math

import torch
from torch import nn

from robcert.network.onnx_import.values import Apply, Value, apply


def gated(x: Value, gate: Value) -> Apply | None:
    """SiLU for x sigmoid(x), hard swish for x times the hard sigmoid of x with slope 1 / 6."""
    if not x.computed or _input(gate, "Sigmoid", "HardSigmoid") is not x:
        return None
    if gate.origin.op == "Sigmoid":
        return apply(nn.SiLU(), x)
    given = gate.origin.attributes
    plain = _close(given.get("alpha", 0.2), 1 / 6) and given.get("beta", 0.5) == 0.5
    return apply(nn.Hardswish(), x) if plain else None


def gelu_of(one: Value, other: Value) -> Value | None:
    """x, if the product is x (1 + erf(x / sqrt 2)) / 2 in one of the orders that exporters write."""
    for left, right in ((one, other), (other, one)):
        for a, b in _factors(left):
            if _number(right) == 0.5 and _is_one_plus_erf(b, a):  # (x (1 + erf)) 0.5
                return a
            if _number(b) == 0.5 and _is_one_plus_erf(right, a):  # (x 0.5) (1 + erf)
                return a
            if _number(b) == 0.5 and _is_one_plus_erf(a, right):  # x (0.5 (1 + erf))
                return right
    return None


def has_positive_offset(value: Value) -> bool:
    """Return whether a value is a sum with a positive constant, whose root has a finite slope everywhere."""
    if value.origin.op != "Add":
        return False
    return any((_number(v) or 0.0) > 0 for v in value.origin.inputs if v is not None)


def _factors(value: Value) -> list[tuple[Value, Value]]:
    if value.origin.op != "Mul":
        return []
    a, b = value.origin.inputs
    assert a is not None
    assert b is not None
    return [(a, b), (b, a)]


def _is_one_plus_erf(value: Value, x: Value) -> bool:
    """Return whether ``value`` is 1 + erf(x / sqrt 2)."""
    if not x.computed or value.origin.op != "Add":
        return False
    for erf, one in (value.origin.inputs, value.origin.inputs[::-1]):
        assert erf is not None
        assert one is not None
        scaled = _input(erf, "Erf")
        if scaled is None or _number(one) != 1:
            continue
        if any(a is x and _close(_number(b), math.sqrt(0.5)) for a, b in _factors(scaled)):
            return True
        if scaled.origin.op == "Div":
            a, b = scaled.origin.inputs
            return a is x and b is not None and _close(_number(b), math.sqrt(2))
    return False


def _input(value: Value, *ops: str) -> Value | None:
    """Return the first input of the op that computed ``value``, if it is one of these."""
    return value.origin.inputs[0] if value.origin.op in ops else None


def _number(value: Value) -> float | None:
    if not value.constant or value.probes[0].numel() != 1 or value.probes[0].dtype == torch.bool:
        return None
    return float(value.probes[0].item())


def _close(found: float | None, expected: float) -> bool:
    return found is not None and abs(found - expected) <= 1e-6
