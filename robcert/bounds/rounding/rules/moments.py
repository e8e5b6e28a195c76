r"""Rounding of layers that normalise by the mean and the variance of one image.

y = gamma (x - m) / sigma + beta over k entries, with m the mean, v the variance and sigma^2 = v + eps. Assumed: mean
and variance are computed entry by entry or part by part, two parts merged at a time in any order (Welford; Chan et
al.), or in two passes; for group and instance norm also as E[x^2] - m^2. The proofs are in docs/soundness.md, section
6.4. With S = mean(x^2), L = max(1, log2 k), g = gamma_{4 k + 16} and q = 2 g sqrt(S L), q^2 raised by what underflows:

    |m^ - m| <= g sqrt(S),     |v^ - v| <= 4.25 q sqrt(v) + 2 q^2 + g v,

so that sigma^ >= 0.86 sigma as long as 81 q^2 <= eps. Then the layer rounds away at most

    max|gamma| / sqrt(eps) ||x|| (g (1.2 + 2.2 sqrt(L)) + 3 gamma_16) + max|gamma| g sqrt(entries) + gamma_16 ||beta||.

If eps is smaller than that, a nearly constant x is all rounding, and no bound is given.
"""

from __future__ import annotations

import math

from robcert.bounds.lipschitz.call import LipschitzCall, largest
from robcert.bounds.lipschitz.values import Value, product, root, total
from robcert.bounds.rounding.rules import Local, local
from robcert.graph.export import IMAGES
from robcert.math.rounding import up

NORMALISED = frozenset(("layer_norm", "native_layer_norm", "group_norm", "instance_norm", "rms_norm"))
"""Ops whose result is bounded by their weights alone."""


def count(call: LipschitzCall) -> int:
    """The number k of entries that are normalised together."""
    shape = call.operands[0].shape
    if call.op == "group_norm":
        return math.prod(shape[1:]) // int(call["num_groups"])
    if call.op == "instance_norm":
        return math.prod(shape[2:])
    return math.prod(int(s) for s in call["normalized_shape"])


def _gamma(call: LipschitzCall) -> float:
    weight = call["weight"]
    return 1.0 if weight is None else largest(weight)


def _beta(call: LipschitzCall, value: Value) -> float:
    """||beta||_2, one image."""
    bias = call.get("bias")
    if bias is None:
        return 0.0
    if call.op in ("group_norm", "instance_norm"):  # an entry a channel
        return product(root(max(1.0, value.size / IMAGES)), largest(bias))
    groups = max(1.0, value.size / IMAGES / max(1, bias.numel()))
    return product(root(groups), up(float(bias.double().norm()), 4 + bias.numel()))


def largest_norm(call: LipschitzCall, value: Value) -> float:
    """||y||_2 <= max|gamma| sqrt(entries) + ||beta||, for one image: the normalised entries have mean square < 1."""
    if len(call.operands) != 1 or (call.op == "instance_norm" and not call["use_input_stats"]):
        return math.inf
    return total(product(_gamma(call), root(max(1.0, value.size / IMAGES))), _beta(call, value))


@local("layer_norm", "native_layer_norm")
def layer_norm(at: Local) -> float:
    """Moments by merging or in two passes."""
    k, eps = count(at.call), float(at.call["eps"])
    g, levels = at.unit.gamma(4 * k + 16), max(1.0, math.log2(max(1, k)) * 1.01)
    s = up(at.read * at.read / k, 4)
    q2 = total(up(4 * g * g * levels * s, 8), up(8 * (k + 8) * at.unit.tiny * (1 + at.read), 8))
    if not (g <= 0.01 and 81 * q2 <= eps and at.read <= 2.0**60):
        return _too_small(at, eps, 81 * q2)
    return _normalised(at, eps, up(g * (1.2 + 2.2 * math.sqrt(levels)), 8), g)


@local("group_norm", "instance_norm")
def group_norm(at: Local) -> float:
    r"""Moments in any of these ways: |v^ - v| <= D = g S (5 + 10 sqrt L); with 4 D <= eps, D / (4 eps) as a factor."""
    at.call.ignore("running_mean", "running_var", "momentum")  # statistics that it does not use
    if at.call.op == "instance_norm" and not at.call["use_input_stats"]:
        return at.call.refuse("no bound of its rounding is known with running statistics")
    k, eps = count(at.call), float(at.call["eps"])
    g, levels = at.unit.gamma(4 * k + 16), max(1.0, math.log2(max(1, k)) * 1.01)
    s = up(at.read * at.read / k, 4)
    d = total(up(g * s * (5 + 10 * math.sqrt(levels)), 8), up(8 * (k + 8) * at.unit.tiny * (1 + at.read), 8))
    if not (g <= 0.01 and 4 * d <= eps and at.read <= 2.0**60):
        return _too_small(at, eps, 4 * d)
    # sqrt k sqrt(v) D / (1.6 sigma^3) <= sqrt k D / (4 eps), stated as a factor of ||x|| / sqrt(eps) below.
    moved = product(_gamma(at.call), product(root(at.entries), up(d / (4 * eps), 4)))
    return total(_normalised(at, eps, up(1.2 * g, 4), g), moved)


@local("rms_norm")
def rms_norm(at: Local) -> float:
    """x gamma / sqrt(mean(x^2) + eps): nothing cancels, so relative errors stay relative."""
    if at.call["eps"] is None:
        return at.call.refuse("its eps is that of the number format, so it is another layer in float64", "Give it eps.")
    k, eps = count(at.call), float(at.call["eps"])
    lost = up(8 * (k + 8) * at.unit.tiny * (1 + at.read) / eps, 4)
    if at.read > 2.0**60 or lost > 2.0**-10:
        return _too_small(at, eps, 0.0)
    relative = total(at.unit.gamma(k + 24), lost)
    return total(product(relative, largest_norm(at.call, at.value)), product(root(at.entries), 64 * at.unit.tiny))


def _normalised(at: Local, eps: float, moments: float, g: float) -> float:
    """The terms that all of them have: moments and arithmetic by ||x|| / sqrt(eps), and relative errors."""
    gain = product(_gamma(at.call), up(1 / math.sqrt(eps), 3))
    u16 = at.unit.gamma(16)
    tiny = up(16 * (count(at.call) + 8) * at.unit.tiny * (1 + at.read), 8)
    return total(
        product(product(gain, at.read), total(moments, up(3 * u16, 2))),
        product(product(_gamma(at.call), root(at.entries)), g),
        product(u16, _beta(at.call, at.value)),
        product(root(at.entries), total(product(gain, tiny), 64 * at.unit.tiny * (1 + _gamma(at.call)))),
    )


def _too_small(at: Local, given: float, needed: float) -> float:
    at.reasons.append(
        f"{at.call.layer}: the eps = {given:g} of {at.call.op} is too small beside the rounding of the variance of "
        f"its input, whose l2 norm may be {at.read:.3g} (at least {needed:.1g} would be needed)"
    )
    return math.inf
