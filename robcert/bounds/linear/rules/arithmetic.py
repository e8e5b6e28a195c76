"""Sums, factors and products."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, fx

from robcert.bounds.linear.activations import Activation, Shape
from robcert.bounds.linear.affine import Diagonal, Sum
from robcert.bounds.linear.rules import LinearCall, Ref, relaxation
from robcert.bounds.linear.rules.products import bilinear
from robcert.bounds.linear.rules.shapes import moved
from robcert.bounds.linear.step import SLACK, Step
from robcert.graph.call import by_name
from robcert.graph.placement import node_label

SQUARE = Shape(torch.square, lambda t: 2 * t)
ROOT = Shape(lambda t: t.clamp_min(0).sqrt(), lambda t: 0.5 / t.clamp_min(1e-30).sqrt(), (0.0,), (0, -1), SLACK)


@relaxation("neg")
def negate(call: LinearCall) -> Step:
    """-x."""
    return scaled(call, call.x, -1.0, 0.0)


@relaxation("add", "sub", "rsub")
def add(call: LinearCall) -> Any:
    """Of two values, or of a value and a constant."""
    alpha = float(call.get("alpha", 1) if call.get("alpha", 1) is not None else 1)
    signs = {"add": (1.0, alpha), "sub": (1.0, -alpha), "rsub": (-alpha, 1.0)}[call.op]
    one, other = call["self"], call["other"]
    if isinstance(one, Ref) and isinstance(other, Ref):
        if one.name == other.name:
            return scaled(call, one, sum(signs), 0.0)
        return Sum(*call.head, signs, (one.shape, other.shape))
    ref, constant = (one, other) if isinstance(one, Ref) else (other, one)
    factor, times = signs if isinstance(one, Ref) else signs[::-1]
    return scaled(call, ref, factor, constant, times)


@relaxation("mul")
def multiply(call: LinearCall) -> Any:
    """By a constant; by itself; by another value."""
    one, other = call["self"], call["other"]
    same = _sign_times_size(call)
    if same is not None:
        return Diagonal(call.node.name, call.layer, (same,), call.shape, *_unit(), 0.0)
    if isinstance(one, Ref) and isinstance(other, Ref):
        if one.name == other.name:
            return square(call, one)
        return bilinear(call, one, other, torch.mul, 1)
    ref, constant = (one, other) if isinstance(one, Ref) else (other, one)
    if not isinstance(ref, Ref) or not isinstance(constant, Tensor | int | float):
        call.refuse("it multiplies by a sign, or by an index")
    return scaled(call, ref, constant, 0.0)


@relaxation("div")
def divide(call: LinearCall) -> Any:
    """By a constant."""
    if call.get("rounding_mode") is not None:
        call.refuse("it rounds")
    if isinstance(call["other"], Ref):
        offset = _softsign(call)
        if offset is None:
            call.refuse("it divides by a tensor that depends on the input")
        name, layer, sources, shape = call.head
        curve = Shape(lambda t: t / (t.abs() + offset), lambda t: offset / (t.abs() + offset).square(), (0.0,), (1, -1))
        return Activation(name, layer, sources[:1], shape, curve)
    divisor = torch.as_tensor(call["other"], dtype=torch.float64)
    if not bool((divisor != 0).all()):
        call.refuse("it divides by 0")
    return scaled(call, call.x, 1 / divisor, 0.0)


@relaxation("sign", "sgn")
def sign(call: LinearCall) -> None:
    """It jumps; but its product with |x|, which lp_pool2d consists of, is x."""
    call.ignore("self")  # nothing is claimed


@relaxation("linalg_vector_norm")
def vector_norm(call: LinearCall) -> Any:
    """The root of a sum of squares."""
    if call["ord"] != 2:
        call.refuse(f"the norm of order {call['ord']} is not known")
    call.same_type("dtype")
    x, name, shape = call.x, call.node.name, call.shape
    squares = Activation(f"{name}/squares", call.layer, (x.name,), x.shape, SQUARE)
    dims = call.get("dim")
    axes = [dims] if isinstance(dims, int) else list(dims or range(1, len(x.shape) + 1))

    def summed(t: Tensor) -> Tensor:
        return t.sum(axes, keepdim=bool(call["keepdim"]))

    total = moved(call, summed, x=Ref(squares.node, x.shape), name="/sum", through=False)
    return squares, total, Activation(name, call.layer, (total.node,), shape, ROOT)


@relaxation("square")
def square(call: LinearCall, x: Ref | None = None) -> Step:
    """Between a tangent and a chord."""
    name, layer, _, shape = call.head
    return Activation(name, layer, ((x or call.x).name,), shape, SQUARE)


@relaxation("sqrt")
def root(call: LinearCall) -> Step:
    """Between a chord and a tangent; what rounding may have made negative counts as 0."""
    return Activation(*call.head, ROOT)


@relaxation("pow")
def power(call: LinearCall) -> Step:
    """1, 2 and 1/2."""
    exponent = call.constant("exponent")
    if isinstance(exponent, Tensor):
        call.refuse("its exponent is a tensor")
    if exponent == 2:
        return square(call)
    if exponent == 0.5:
        return root(call)
    if exponent != 1:
        call.refuse(f"the exponent {exponent} is not known")
    return scaled(call, call.x, 1.0, 0.0)


def scaled(call: LinearCall, x: Ref, scale: Any, shift: Any, times: float = 1.0) -> Any:
    """scale x + times shift, both constants; what the constant copies is copied first."""
    shape = call.shape
    factor, constant = (
        call.for_image(torch.as_tensor(value, dtype=torch.float64), len(shape) + 1) for value in (scale, shift)
    )
    constant = constant * times
    size = float(constant.abs().amax()) if constant.numel() else 0.0
    if x.shape == shape:
        return Diagonal(call.node.name, call.layer, (x.name,), shape, factor, constant, size)
    lead = (1,) * (len(shape) - len(x.shape))
    copies = moved(call, lambda t: t.reshape(len(t), *lead, *x.shape).expand(len(t), *shape), x=x, name="/copies")
    return copies, Diagonal(call.node.name, call.layer, (copies.node,), shape, factor, constant, size)


def _sign_times_size(call: LinearCall) -> str | None:
    """The name of x where the product is sign(x) relu(|x|), or sign(x) |x|."""
    for one, other in (call.node.args[:2], call.node.args[1::-1]):
        if not isinstance(one, fx.Node) or node_label(one) not in ("sign", "sgn") or not isinstance(other, fx.Node):
            continue
        size = other.args[0] if node_label(other) == "relu" else other
        if isinstance(size, fx.Node) and node_label(size) == "abs" and size.args[0] is one.args[0]:
            return cast("fx.Node", size.args[0]).name
    return None


def _softsign(call: LinearCall) -> float | None:
    """The number c > 0 where the quotient is x / (|x| + c)."""
    x, divisor = call.node.args[:2]
    if not isinstance(divisor, fx.Node) or node_label(divisor) != "add":
        return None
    given = by_name(divisor.target, divisor.args, divisor.kwargs)
    size, offset = given["self"], given["other"]
    fits = isinstance(size, fx.Node) and node_label(size) == "abs" and size.args[0] is x and given["alpha"] == 1
    return float(offset) if fits and isinstance(offset, int | float) and offset > 0 else None


def _unit() -> tuple[Tensor, Tensor]:
    return torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
