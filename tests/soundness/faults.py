"""Faults that certificates once had, each as a pair that shows it and as a way to put it back.

Each stands for a kind: a value that is copied and counted once, an argument that no rule reads, a network whose images
see each other, rounding without a bound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from robcert.bounds.lipschitz.call import LipschitzCall
from robcert.bounds.lipschitz.operators import Dense
from robcert.bounds.lipschitz.rules import activations, arithmetic, joining, linear, rules
from robcert.bounds.lipschitz.values import ONE, Value, same
from robcert.bounds.rounding.rules import Local, rounding_rules
from robcert.bounds.rounding.rules.elementary import length
from robcert.graph import batch, interpreter, read
from robcert.graph.call import OpCall
from robcert.graph.read import Graph
from tests.soundness.sample_networks import Pair

PutBack = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Fault:
    """A pair, and what makes a claim about it wrong.

    Attributes:
        pair: the network and its image.
        put_back: the fault.
        outcome: what the harness then says of a cell: wrong, or raw.
        domain: in which analysis.
    """

    pair: Pair
    put_back: PutBack
    outcome: str = "wrong"
    domain: str = "l2"


def _pair(operator: str, call: Callable[..., Any], *arguments: Any) -> Pair:
    leaves, tree = pytree.tree_flatten((arguments, {}))
    return Pair(operator, "fault", 0, 0, call, tuple(leaves), tree)


def _some(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


# A value that meets several constants, and is counted once.


def _one_product(patch: pytest.MonkeyPatch) -> None:
    def blocks(matrix: Tensor, shape: tuple[int, ...]) -> Tensor:
        del shape
        return torch.block_diag(*matrix.reshape(-1, *matrix.shape[-2:]))

    patch.setattr(linear, "blocks", blocks)


def _one_copy(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(joining, "copied", lambda _times: ONE)


def _one_factor(patch: pytest.MonkeyPatch) -> None:
    def weighted(call: LipschitzCall, x: Value, constant: Tensor) -> Value:
        return call.linear(x, same(float(constant.abs().max())))

    patch.setattr(arithmetic, "weighted", weighted)
    patch.setattr(arithmetic, "multiplied", lambda _call, _x, _constant, value: value)


def _one_clipped(patch: pytest.MonkeyPatch) -> None:
    def clipped_copies(call: LipschitzCall, x: Value) -> Value:
        return call.nonlinear(x, ONE, *x.patterns)

    patch.setattr(activations, "clipped_copies", clipped_copies)


# Arguments that no rule has read.


def _any_type(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(OpCall, "same_type", lambda self, *names: self.ignore(*names))


def _no_alpha(patch: pytest.MonkeyPatch) -> None:
    given = OpCall.get

    def get(self: OpCall[Any], name: str, default: Any = None) -> Any:
        value = given(self, name, default)
        return 1 if name == "alpha" and value is not None else value

    patch.setattr(OpCall, "get", get)


def _no_accounts(patch: pytest.MonkeyPatch) -> None:
    """A rule that reads the input alone, and nobody who asks about the rest."""

    def scaled_by_nothing(call: LipschitzCall) -> Value:
        return call.nonlinear(call.only("self", "other"), ONE)

    scaled_by_nothing.affine = True  # type: ignore[attr-defined]
    patch.setitem(cast("dict[str, Any]", rules._entries), "add", scaled_by_nothing)  # pyright: ignore[reportPrivateUsage]
    patch.setattr(OpCall, "check_accounted", lambda _self: None)


def _any_argument(patch: pytest.MonkeyPatch) -> None:
    def product(call: LipschitzCall) -> Value:
        return call.operator(call.operands[0], Dense(cast("Tensor", call["weight"]).double(), ()))

    product.affine = True  # type: ignore[attr-defined]
    patch.setitem(cast("dict[str, Any]", rules._entries), "linear", product)  # pyright: ignore[reportPrivateUsage]
    patch.setattr(batch.BatchCall, "first", property(lambda self: self["bias"]))
    patch.setattr(OpCall, "check_accounted", lambda _self: None)


# Images that see each other.


def _any_number(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(batch, "_depends_on_number", lambda _given: False)


def _any_batch(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Graph, "_check_placed", lambda _self, _node: None)


def _any_draw(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(batch, "is_random", lambda _node: False)
    patch.setattr(read, "_check_same", lambda _graph, _module, _shape: None)


# Rounding, and exceptions that are no refusal.


def _any_variance(patch: pytest.MonkeyPatch) -> None:
    def batch_norm(at: Local) -> float:
        weight, bias, mean, variance = (at.call[name] for name in ("weight", "bias", "running_mean", "running_var"))
        at.call.ignore(*at.call.given)
        scale = 1 / torch.sqrt(variance.double() + float(at.call["eps"]))
        scale = scale if weight is None else scale * weight.double()
        shift = length(at, mean.double() * scale, channels=True)
        return at.rounded(10, at.moved + shift + length(at, bias, channels=True))

    patch.setitem(cast("dict[str, Any]", rounding_rules._entries), "batch_norm", batch_norm)  # pyright: ignore[reportPrivateUsage]


def _raw(patch: pytest.MonkeyPatch) -> None:
    def ruled(call: OpCall[Any], rule: Callable[[], Any]) -> Any:
        found = rule()
        call.check_accounted()
        return found

    def broken(call: LipschitzCall) -> Value:
        return call.moved(call.operands[3])

    patch.setattr(interpreter, "ruled", ruled)
    patch.setitem(cast("dict[str, Any]", rules._entries), "flip", broken)  # pyright: ignore[reportPrivateUsage]


def _normalised(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return F.batch_norm(x, mean, variance, eps=1e-5)


_MEAN, _NEGATIVE = torch.tensor([100.0, 1.0, 1.0]), torch.tensor([-1e-5 + 1e-9, 1.0, 1.0])

FAULTS: dict[str, Fault] = {
    "matmul(x, W) with a W for every head": Fault(
        _pair("matmul", torch.matmul, _some(2, 5), _some(4, 5, 3)), _one_product),
    "matmul(x, W) with an axis of one in between": Fault(
        _pair("matmul", torch.matmul, _some(2, 3, 5), _some(2, 1, 5, 4)), _one_product),
    "W[h] @ x.t()": Fault(_pair("matmul", lambda x, w: w @ x.t(), _some(2, 5), _some(4, 3, 5)), _one_product),
    "x + c of a larger shape": Fault(_pair("add", torch.add, _some(3, 1), _some(3, 4)), _one_copy),
    "where(c, x, d) of a larger shape": Fault(
        _pair("where", lambda x, c: torch.where(c > -9, x, c), _some(3, 1), _some(3, 4)), _one_copy),
    "x c of a larger shape": Fault(_pair("mul", torch.mul, _some(3, 1), torch.ones(3, 4)), _one_factor),
    "clamp(squares, min=tensor)": Fault(
        _pair("clamp", lambda x, c: x.square().sum(-1, keepdim=True).clamp(min=c).sqrt(), _some(2, 4), torch.zeros(7)),
        _one_clipped),
    **{
        f"{name}(dtype=bfloat16)": Fault(
            _pair(name, lambda x, kind, of=getattr(torch, name): of(x, -1, dtype=kind), _some(2, 4), torch.bfloat16),
            _any_type)
        for name in ("mean", "sum", "softmax", "log_softmax")
    },
    "add(alpha=7)": Fault(_pair("add", lambda x, c: torch.add(c, x, alpha=7), _some(2, 4), _some(2, 4)), _no_alpha),
    "an argument that nobody asks about": Fault(
        _pair("add", lambda x, c: torch.add(c, x, alpha=7), _some(2, 4), _some(2, 4)), _no_accounts),
    "linear(c, W, bias=x)": Fault(
        _pair("linear", lambda x, c, w: F.linear(c.expand(x.shape[0], -1), w, x), _some(2, 3), _some(1, 4),
              _some(3, 4) / 9),
        _any_argument),
    "x times the number of images": Fault(_pair("mul", lambda x: x * x.shape[0], _some(2, 4)), _any_number),
    "x less a millionth of the mean of all images": Fault(
        _pair("mean", lambda x: x - 1e-6 * x.mean(0), _some(2, 4)), _any_batch),
    "softmax over the images": Fault(_pair("softmax", lambda x: x.softmax(0), _some(2, 4)), _any_batch),
    "x plus a millionth of noise": Fault(
        _pair("add", lambda x: x + 1e-6 * torch.randn(x.shape[-1]), _some(2, 4)), _any_draw),
    "batch norm with var + eps near 0": Fault(
        _pair("batch_norm", _normalised, _some(2, 3, 4), _MEAN, _NEGATIVE), _any_variance, domain="rounding"),
    "an IndexError of a rule": Fault(_pair("flip", lambda x: x.flip(-1), _some(2, 4)), _raw, "raw"),
}  # fmt: skip
"""What it was, in a few words -> the fault."""
