"""Rounding of products of two values, softmax and normalisation, entry by entry (docs/soundness.md, 6.4)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robcert.bounds.linear.bilinear import Bilinear
from robcert.bounds.linear.normalisation import Normalised
from robcert.bounds.linear.rules import LinearCall
from robcert.bounds.linear.step import Interval, Rounding, Step
from robcert.bounds.rounding.entrywise import WIDE, entrywise, largest, rounded
from robcert.bounds.rounding.rules import FLOAT32

_EXPONENTIAL = 64
"""Roundings that an exponential of fused attention may be off by: its kernel's is within 20 ulp."""


@entrywise("bmm", "einsum")
def products(call: LinearCall, step: Step) -> Rounding:
    """Sums of products of two values."""
    assert isinstance(step, Bilinear)
    return summed(step, step.terms + 2)


def summed(step: Bilinear, times: int) -> Rounding:
    """Return the rounding of sums of products whose terms take part in so many roundings."""

    def bound(given: list[Interval], _: Interval) -> Tensor:
        sizes = [largest(x) for x in given]
        scale = max(float(x.max()) if x.numel() else 0.0 for x in sizes)
        return rounded(times, step.function(*sizes), scale)

    return Rounding(bound)


@entrywise("softmax", "_softmax")
def softmax(call: LinearCall, step: Step) -> Rounding:
    """Differences from the largest entry, exponentials, their sum, a quotient."""
    return _weights(step.shape[int(call.given["dim"]) % (len(step.shape) + 1) - 1], 8)


def _weights(count: int, exponential: int) -> Rounding:
    """Softmax of ``count`` entries whose exponentials are off by ``exponential`` roundings each.

    With a relative error e of every exponential and of their sum a quotient is off by 3 e of itself for e <= 1/10; and
    no entry is off by more than 1.
    """

    def bound(given: list[Interval], result: Interval) -> Tensor:
        argument = torch.expm1((4 * FLOAT32.u * given[0].largest).clamp_max(700.0))
        relative = (argument + FLOAT32.gamma(exponential + 2 * count + 16)).view(-1, *([1] * (result.lower.dim() - 1)))
        found = 3 * relative * largest(result) + 64 * count * FLOAT32.tiny
        return torch.where(relative <= 0.1, found, 1.0) * WIDE

    return Rounding(bound, square=True)


@entrywise("scaled_dot_product_attention")
def attention(call: LinearCall, step: Step) -> dict[str, Rounding]:
    """Scores, weights, and their products, as one kernel computes them block by block.

    A block's exponentials are relative to the largest score so far, and multiplied by another exponential for each
    later block; the differences add up to no more than twice the largest score. There are no more blocks than keys.
    """
    assert isinstance(step, Bilinear)
    name, keys = call.node.name, step.terms
    width = int(call.given["query"].shape[-1])
    scale = 1 / math.sqrt(width) if call.given.get("scale") is None else float(call.given["scale"])

    def scores(given: list[Interval], _: Interval) -> Tensor:
        one, other = (largest(x) for x in given)
        most = max(float(one.max()), float(other.max()))
        return rounded(width + 16, torch.matmul(one * scale, other.transpose(-1, -2)), most)

    return {
        f"{name}/scores": Rounding(scores),
        f"{name}/weights": _weights(keys, _EXPONENTIAL * (keys + 2)),
        name: summed(step, 2 * keys + 8),
    }


@entrywise("layer_norm", "native_layer_norm", "group_norm", "instance_norm", "rms_norm")
def normalised(call: LinearCall, step: Step) -> Rounding:
    """The steps of docs/soundness.md, 6.4, with the variance that the interval leaves in place of eps alone.

    With the relative error p of V + eps, at most 1/2, the factor 1 / sqrt(V + eps) is off by p of itself. The mean is
    off by g sqrt(S), S the mean of the squares; then 16 roundings of what is added up.
    """
    assert isinstance(step, Normalised)
    count = math.prod(step.shape) // step.groups
    if not step.centred:  # nothing cancels
        return Rounding(lambda _, result: rounded(count + 24, largest(result)))
    g, logarithm = FLOAT32.gamma(4 * count + 16), max(1.0, math.log2(count))
    blocks = "layer" in call.op  # parts are merged; the others may subtract the square of the mean
    scale, shift = step.scale.abs(), step.shift.abs()

    def bound(given: list[Interval], result: Interval) -> Tensor:
        x = largest(given[0]).reshape(len(result.lower), step.groups, -1)
        inverse = step.steepest(given[0])
        squares = x.square().mean(-1) + 8 * (count + 8) * FLOAT32.tiny * (1 + x.square().sum(-1).sqrt())
        q = 2 * g * (squares * logarithm).sqrt() * inverse
        merged, apart = 4.25 * q + 2 * q.square() + g, g * squares * (5 + 10 * math.sqrt(logarithm)) * inverse.square()
        p = (merged if blocks else apart).unsqueeze(-1)
        y = largest(result).reshape(x.shape) + shift  # |gamma c r|
        mean = 1.5 * g * (squares.sqrt() * inverse).unsqueeze(-1) * scale
        arithmetic = FLOAT32.gamma(16) * (
            3 * (x + squares.sqrt().unsqueeze(-1)) * inverse.unsqueeze(-1) * scale + shift
        )
        tiny = 64 * FLOAT32.tiny * (1 + scale + shift) * (1 + x.amax(-1, keepdim=True)) * (1 + inverse.unsqueeze(-1))
        found = torch.where(p <= 0.5, y * p + mean + arithmetic + tiny, math.inf)
        return (found * WIDE).reshape(result.lower.shape)

    return Rounding(bound)
