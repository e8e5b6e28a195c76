"""Sums, factors and products."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, fx

from robcert.bounds.linear.activations import Activation, Shape
from robcert.bounds.linear.affine import Diagonal, Sum
from robcert.bounds.linear.product import Product
from robcert.bounds.linear.rules import Ref, Site, relaxation
from robcert.bounds.linear.rules.shapes import moved
from robcert.bounds.linear.step import SLACK, Step
from robcert.graph.call import by_name
from robcert.graph.read import node_label

SQUARE = Shape(torch.square, lambda t: 2 * t)
ROOT = Shape(lambda t: t.clamp_min(0).sqrt(), lambda t: 0.5 / t.clamp_min(1e-30).sqrt(), (0.0,), (0, -1), SLACK)


@relaxation("neg")
def negate(site: Site) -> Step:
    """-x."""
    return scaled(site, site.x, -1.0, 0.0)


@relaxation("add", "sub", "rsub")
def add(site: Site) -> Any:
    """Of two values, or of a value and a constant."""
    alpha = float(site.get("alpha", 1) if site.get("alpha", 1) is not None else 1)
    signs = {"add": (1.0, alpha), "sub": (1.0, -alpha), "rsub": (-alpha, 1.0)}[site.op]
    one, other = site["self"], site["other"]
    if isinstance(one, Ref) and isinstance(other, Ref):
        if one.name == other.name:
            return scaled(site, one, sum(signs), 0.0)
        return Sum(*site.head, signs, (one.shape, other.shape))
    ref, constant = (one, other) if isinstance(one, Ref) else (other, one)
    factor, times = signs if isinstance(one, Ref) else signs[::-1]
    return scaled(site, ref, factor, constant, times)


@relaxation("mul")
def multiply(site: Site) -> Any:
    """By a constant; by itself; by another value."""
    one, other = site["self"], site["other"]
    same = _sign_times_size(site)
    if same is not None:
        return Diagonal(site.node.name, site.layer, (same,), site.shape, *_unit(), 0.0)
    if isinstance(one, Ref) and isinstance(other, Ref):
        if one.name == other.name:
            return square(site, one)
        if one.shape != other.shape:
            site.refuse("it multiplies two tensors of different shapes that depend on the input")
        return Product(*site.head)
    ref, constant = (one, other) if isinstance(one, Ref) else (other, one)
    if not isinstance(ref, Ref) or not isinstance(constant, Tensor | int | float):
        site.refuse("it multiplies by a sign, or by an index")
    return scaled(site, ref, constant, 0.0)


@relaxation("div")
def divide(site: Site) -> Any:
    """By a constant."""
    if site.get("rounding_mode") is not None:
        site.refuse("it rounds")
    if isinstance(site["other"], Ref):
        offset = _softsign(site)
        if offset is None:
            site.refuse("it divides by a tensor that depends on the input")
        name, layer, sources, shape = site.head
        curve = Shape(lambda t: t / (t.abs() + offset), lambda t: offset / (t.abs() + offset).square(), (0.0,), (1, -1))
        return Activation(name, layer, sources[:1], shape, curve)
    divisor = torch.as_tensor(site["other"], dtype=torch.float64)
    if not bool((divisor != 0).all()):
        site.refuse("it divides by 0")
    return scaled(site, site.x, 1 / divisor, 0.0)


@relaxation("sign", "sgn")
def sign(site: Site) -> None:
    """It jumps; but its product with |x|, which lp_pool2d consists of, is x."""
    site.ignore("self")  # nothing is claimed


@relaxation("linalg_vector_norm")
def vector_norm(site: Site) -> Any:
    """The root of a sum of squares."""
    if site["ord"] != 2:
        site.refuse(f"the norm of order {site['ord']} is not known")
    site.same_type("dtype")
    x, name, shape = site.x, site.node.name, site.shape
    squares = Activation(f"{name}/squares", site.layer, (x.name,), x.shape, SQUARE)
    dims = site.get("dim")
    axes = [dims] if isinstance(dims, int) else list(dims or range(1, len(x.shape) + 1))

    def summed(t: Tensor) -> Tensor:
        return t.sum(axes, keepdim=bool(site["keepdim"]))

    total = moved(site, summed, x=Ref(squares.node, x.shape), name="/sum", through=False)
    return squares, total, Activation(name, site.layer, (total.node,), shape, ROOT)


@relaxation("square")
def square(site: Site, x: Ref | None = None) -> Step:
    """Between a tangent and a chord."""
    name, layer, _, shape = site.head
    return Activation(name, layer, ((x or site.x).name,), shape, SQUARE)


@relaxation("sqrt")
def root(site: Site) -> Step:
    """Between a chord and a tangent; what rounding may have made negative counts as 0."""
    return Activation(*site.head, ROOT)


@relaxation("pow")
def power(site: Site) -> Step:
    """1, 2 and 1/2."""
    exponent = site.constant("exponent")
    if isinstance(exponent, Tensor):
        site.refuse("its exponent is a tensor")
    if exponent == 2:
        return square(site)
    if exponent == 0.5:
        return root(site)
    if exponent != 1:
        site.refuse(f"the exponent {exponent} is not known")
    return scaled(site, site.x, 1.0, 0.0)


def scaled(site: Site, x: Ref, scale: Any, shift: Any, times: float = 1.0) -> Any:
    """scale x + times shift, both constants; what the constant copies is copied first."""
    shape = site.shape
    factor, constant = (
        site.for_image(torch.as_tensor(value, dtype=torch.float64), len(shape) + 1) for value in (scale, shift)
    )
    constant = constant * times
    size = float(constant.abs().amax()) if constant.numel() else 0.0
    if x.shape == shape:
        return Diagonal(site.node.name, site.layer, (x.name,), shape, factor, constant, size)
    lead = (1,) * (len(shape) - len(x.shape))
    copies = moved(site, lambda t: t.reshape(len(t), *lead, *x.shape).expand(len(t), *shape), x=x, name="/copies")
    return copies, Diagonal(site.node.name, site.layer, (copies.node,), shape, factor, constant, size)


def _sign_times_size(site: Site) -> str | None:
    """The name of x where the product is sign(x) relu(|x|), or sign(x) |x|."""
    for one, other in (site.node.args[:2], site.node.args[1::-1]):
        if not isinstance(one, fx.Node) or node_label(one) not in ("sign", "sgn") or not isinstance(other, fx.Node):
            continue
        size = other.args[0] if node_label(other) == "relu" else other
        if isinstance(size, fx.Node) and node_label(size) == "abs" and size.args[0] is one.args[0]:
            return cast("fx.Node", size.args[0]).name
    return None


def _softsign(site: Site) -> float | None:
    """The number c > 0 where the quotient is x / (|x| + c)."""
    x, divisor = site.node.args[:2]
    if not isinstance(divisor, fx.Node) or node_label(divisor) != "add":
        return None
    given = by_name(divisor.target, divisor.args, divisor.kwargs)
    size, offset = given["self"], given["other"]
    fits = isinstance(size, fx.Node) and node_label(size) == "abs" and size.args[0] is x and given["alpha"] == 1
    return float(offset) if fits and isinstance(offset, int | float) and offset > 0 else None


def _unit() -> tuple[Tensor, Tensor]:
    return torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
