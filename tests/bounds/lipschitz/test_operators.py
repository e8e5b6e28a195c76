"""Operators against torch's own layers, and the norms that have a closed form."""

from __future__ import annotations

import copy
import math
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from robcert.bounds.lipschitz.convolution import Conv
from robcert.bounds.lipschitz.network_bound import propagate
from robcert.bounds.lipschitz.norms import operator_norm
from robcert.bounds.lipschitz.operators import Dense, Diagonal, LinearOperator
from robcert.bounds.lipschitz.papers import frobenius, paper_norms
from robcert.bounds.rounding.rules.linear import operator_of
from robcert.errors import EvaluationError

from .operator_cases import matrix

LAYERS: list[tuple[nn.Module, tuple[int, ...]]] = [
    (nn.Linear(5, 4), (5,)),
    (nn.Linear(5, 4), (3, 5)),
    (nn.Conv1d(2, 3, 5, 2, 3, 2), (2, 9)),
    (nn.Conv1d(2, 3, 3, padding="same"), (2, 6)),
    (nn.Conv1d(2, 3, 5, padding="same", dilation=3, padding_mode="replicate"), (2, 6)),
    (nn.Conv2d(4, 6, 3, 2, 1, groups=2), (4, 7, 5)),
    (nn.Conv2d(2, 2, 5, 1, 6), (2, 2, 2)),
    (nn.Conv2d(2, 3, 3, 2, 2, padding_mode="reflect"), (2, 7, 5)),
    (nn.Conv2d(2, 3, (3, 5), 1, 2, padding_mode="circular"), (2, 7, 5)),
    (nn.Conv2d(2, 3, 3, 1, (2, 0), padding_mode="replicate"), (2, 3, 5)),
    (nn.Conv3d(2, 3, 3, 2, 1), (2, 4, 3, 5)),
    (nn.ConvTranspose1d(4, 2, 3, 2, 1, 2, dilation=3), (4, 7)),
    (nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2), (4, 5, 3)),
    (nn.ConvTranspose2d(2, 3, 3, 1, 2), (2, 7, 4)),
    (nn.ConvTranspose3d(2, 2, 2, 2), (2, 2, 3, 2)),
    (nn.BatchNorm1d(5), (5,)),
    (nn.BatchNorm2d(3), (3, 4, 4)),
    (nn.BatchNorm2d(3, affine=False), (3, 4, 4)),
    (nn.AvgPool1d(3, 2, 1), (2, 6)),
    (nn.AvgPool2d(3, 2, 1, ceil_mode=True), (2, 8, 7)),
    (nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), (2, 8, 7)),
    (nn.AvgPool2d((3, 2), 1, ceil_mode=True, divisor_override=2), (2, 6, 5)),
    (nn.AvgPool3d(2, 1, ceil_mode=True), (2, 3, 4, 3)),
    (nn.AdaptiveAvgPool1d(4), (2, 7)),
    (nn.AdaptiveAvgPool2d((3, None)), (2, 8, 5)),
    (nn.AdaptiveAvgPool2d(1), (2, 8, 5)),
    (nn.AdaptiveAvgPool3d(2), (2, 3, 4, 3)),
]


def operator_in(layer: nn.Module, shape: tuple[int, ...]) -> LinearOperator:
    """The linear operator that the rule of a layer builds; padding that is an op of its own is part of it."""
    domain, _ = propagate(nn.Sequential(layer, nn.Flatten()), shape)
    calls = {call.op: call for call in domain.calls.values()}
    *_, last = (call for op, call in calls.items() if op not in ("flatten", "view", "reshape", "squeeze"))
    return operator_of(last)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda value: str(value))
def test_an_operator_is_its_layer(layer: nn.Module, shape: tuple[int, ...]) -> None:
    torch.manual_seed(3)
    layer = copy.deepcopy(layer).eval()
    for name, buffer in layer.named_buffers():
        if name == "running_var":
            buffer.uniform_(0.1, 2)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    op = operator_in(layer, shape)
    layer.double()
    x, zero = torch.randn(2, *shape).double(), torch.zeros(2, *shape).double()
    expected = layer(x) - layer(zero)
    assert op.in_shape == shape
    assert op.out_shape == tuple(expected.shape[1:])
    torch.testing.assert_close(op.apply(x), expected, rtol=1e-12, atol=1e-12)
    y = torch.randn(2, *op.out_shape).double()
    torch.testing.assert_close((op.apply(x) * y).sum(), (x * op.adjoint(y)).sum(), rtol=1e-10, atol=1e-10)
    dense = matrix(op)
    for norm, order in (("l1", 1), ("linf", math.inf), ("l2", 2)):
        truth = float(torch.linalg.matrix_norm(dense, order))
        bound = operator_norm(op, norm)  # pyright: ignore[reportArgumentType]
        assert bound.lower * (1 - 1e-13) <= truth <= bound.upper * (1 + 1e-13), (norm, bound, truth)
        assert bound.upper <= truth * (1 + 1e-9)
        assert bound.lower >= truth * (1 - 1e-5)


def test_average_pooling_without_the_padding_can_exceed_one() -> None:
    op = operator_in(nn.AvgPool2d(3, 1, 1, count_include_pad=False), (1, 4, 4))
    assert operator_norm(op, "l2").lower > 1
    assert operator_norm(op, "l1").lower > 1


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused(value: float) -> None:
    weight = torch.ones(2, 3)
    weight[0, 0] = value
    for op in (Dense(weight), Conv(weight.unsqueeze(-1), (4,), (1,), ((0, 0),), (1,))):
        with pytest.raises(EvaluationError, match="NaN or infinite"):
            operator_norm(op, "l2")


def test_an_input_that_does_not_fit_is_refused() -> None:
    with pytest.raises(EvaluationError, match="does not fit"):
        Conv(torch.ones(2, 3, 5, 5), (2, 2), (1, 1), ((0, 0),) * 2, (1, 1))


def theorem_1(op: Conv) -> tuple[float, float] | None:
    """The l1 and l-inf norm as in Liang & Huang (2021), theorem 1; None where assumption 1 does not hold.

    Written from lemma 1: A_(a,b) holds the indices (c, d) with c = a mod s_1, d = b mod s_2 and
    0 <= c - a <= h_in + 2 p_1 - k_1, likewise d - b.
    """
    weight = op.weight.abs()
    for n, k, s, (low, high) in zip(op.size, op.kernel, op.stride, op.padding, strict=True):
        assert low == high
        steps = max(1, -(-low // s))
        if k + steps * s - low > n or op.mode != "zeros" or (n + 2 * low - k) % s:
            return None
    room = [n + 2 * p - k for n, (p, _), k in zip(op.size, op.padding, op.kernel, strict=True)]
    taps = list(product(*(range(k) for k in op.kernel)))
    best = 0.0
    for a, b in taps:
        chosen = [
            (c, d)
            for c, d in taps
            if (c - a) % op.stride[0] == 0 and (d - b) % op.stride[1] == 0
            if 0 <= c - a <= room[0] and 0 <= d - b <= room[1]
        ]
        sums: Tensor = torch.stack([weight[:, :, c, d] for c, d in chosen]).sum((0, 1))
        best = max(best, float(sums.max()))
    return best, float(weight.sum((1, 2, 3)).max())


def test_theorem_1_of_liang_and_huang_where_its_assumption_holds() -> None:
    torch.manual_seed(0)
    held = 0
    for k1, k2, s1, s2, p1, p2 in product((1, 3, 4), (2, 5), (1, 2), (1, 3), (0, 1), (0, 2)):
        op = Conv(torch.randn(3, 2, k1, k2), (11, 12), (s1, s2), ((p1, p1), (p2, p2)), (1, 1))
        expected = theorem_1(op)
        if expected is not None:
            held += 1
            assert operator_norm(op, "l1").upper == pytest.approx(expected[0], rel=1e-12)
            assert operator_norm(op, "linf").upper == pytest.approx(expected[1], rel=1e-12)
    assert held >= 20


def test_what_the_papers_compute() -> None:
    torch.manual_seed(0)
    for mode, groups in product(("zeros", "circular", "reflect", "replicate"), (1, 2)):
        op = Conv(torch.randn(4, 4 // groups, 3, 3), (6, 5), (1, 1), ((2, 1), (1, 1)), (1, 1), groups, mode)  # pyright: ignore[reportArgumentType]
        dense = matrix(op)
        truth = float(torch.linalg.matrix_norm(dense, 2))
        assert frobenius(op) == pytest.approx(float(dense.norm()), rel=1e-12)
        norms = {n.name: n for n in paper_norms(op)}
        assert all(n.value >= truth for n in norms.values() if n.bound)
        assert not norms["reshaped"].bound
        assert "not a bound" in norms["reshaped"].note
        assert norms["reshaped"].value < truth
    assert all(n.bound for n in paper_norms(Dense(torch.randn(3, 4))))


def test_zero_and_tiny_operators() -> None:
    shape = ((5, 5), (1, 1), ((1, 1), (1, 1)), (1, 1))
    for norm in ("l1", "linf", "l2"):
        bound = operator_norm(Conv(torch.zeros(2, 2, 3, 3), *shape), norm)
        assert bound.lower == bound.upper == 0
        assert operator_norm(Diagonal(torch.zeros(3, 1).double(), (3, 4)), norm).upper == 0
    tiny = Conv(torch.full((1, 1, 3, 3), 1e-200, dtype=torch.float64), *shape)
    assert operator_norm(tiny, "l2").gap < 1e-6
    unseen = Conv(torch.ones(1, 1, 2, dtype=torch.float64), (1,), (2,), ((2, 2),), (3,))
    assert (operator_norm(unseen, "l2").upper == 0) == (float(matrix(unseen).abs().max()) == 0)
