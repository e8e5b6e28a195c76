"""The norms of operators against the dense matrix: exact l1 and l-inf, a sound l2, each method on its own.

The singular values come from LAPACK's float64 SVD of the whole matrix, whose largest singular value is off by a
modest multiple of the unit roundoff: SLACK, far below what the tests must notice (1e-5).
"""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from robcert.bounds.lipschitz import dense, norms
from robcert.bounds.lipschitz.circulant import symbol
from robcert.bounds.lipschitz.convolution import Conv, ConvTranspose
from robcert.bounds.lipschitz.largest_eigenvalue import EigenvalueBound
from robcert.bounds.lipschitz.norms import Method, operator_norm
from robcert.bounds.lipschitz.operators import Bound, LinearOperator

from .gram import gram_iteration
from .operator_cases import convolutions, matrix, transposed_convolutions

SLACK = 1e-13
SHAPES = 500
"""How many different shapes must have been drawn; some are drawn twice, with other weights."""
METHODS: tuple[Method, ...] = ("dense", "circulant", "lanczos", "auto")
default = settings(
    max_examples=SHAPES * 5 // 4,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)


def brackets(bound: Bound, truth: float, slack: float = SLACK) -> None:
    """Fails unless lower <= truth <= upper, but for the rounding of ``truth``."""
    assert bound.upper >= truth * (1 - slack), f"{bound} is too small for {truth}"
    assert bound.lower <= truth * (1 + slack), f"the lower end of {bound} is too large for {truth}"


def spectral(whole: torch.Tensor) -> float:
    return float(torch.linalg.svdvals(whole)[0])


def check(op: LinearOperator, gaps: dict[tuple[str, str], list[float]]) -> None:
    whole = matrix(op)
    conv = op.forward if isinstance(op, ConvTranspose) else op
    assert isinstance(conv, Conv)
    # Taps that meet in one entry may cancel, and the a-priori error is relative to what they were.
    cancelled = 0.0 if conv.mode == "zeros" else 1e-15 * float(conv.weight.abs().sum())
    for norm, axis in (("linf", 1), ("l1", 0)):
        truth = float(whole.abs().sum(axis).max())
        bound = operator_norm(op, norm)
        brackets(bound, truth, 1e-15 * max(whole.shape))
        assert bound.upper <= truth * (1 + 1e-12) + cancelled, (norm, bound, truth)
        assert bound.lower >= truth * (1 - 1e-12) - cancelled, (norm, bound, truth)
    truth = spectral(whole)
    size = max(max(op.in_shape[1:]), max(op.out_shape[1:]))
    for method in METHODS:
        bound = operator_norm(op, "l2", method=method)
        brackets(bound, truth)
        if truth > 0:
            # Lanczos has a lower end only: its gap is measured from the truth.
            gap = truth / max(bound.lower, 1e-300) - 1 if method == "lanczos" else bound.gap
            gaps[method, f"{size // 4 * 4:2d}-{size // 4 * 4 + 3}"].append(gap)


def report(gaps: dict[tuple[str, str], list[float]]) -> None:
    for (method, size), values in sorted(gaps.items()):
        median = statistics.median(values)
        sys.stdout.write(f"{method:10s} size {size:6s} {len(values):5d} cases, median gap {median:.2e}\n")


def test_every_norm_of_convolutions_and_every_method() -> None:
    gaps: dict[tuple[str, str], list[float]] = defaultdict(list)
    seen: set[tuple[object, ...]] = set()

    @default
    @given(convolutions())
    def run(op: Conv) -> None:
        seen.add((op.size, op.kernel, op.stride, op.padding, op.dilation, op.groups, op.mode, op.weight.shape))
        check(op, gaps)

    run()
    report(gaps)
    assert len(seen) >= SHAPES
    for (method, size), values in gaps.items():
        if method != "circulant":  # which is no match for inputs of a few entries: see the test of larger ones
            assert statistics.median(values) <= 0.01, (method, size)


@settings(default, max_examples=300)
@given(transposed_convolutions())
def test_every_norm_of_transposed_convolutions(op: ConvTranspose) -> None:
    check(op, defaultdict(list))


@pytest.mark.parametrize(("small", "strip", "large"), [(0, 0, 0), (0, 4096, 0), (0, 0, 4096)], ids=str)
def test_each_stage_of_the_refinement_alone(
    monkeypatch: pytest.MonkeyPatch, small: int, strip: int, large: int
) -> None:
    """As on large operators: the circulant with Lanczos, one axis written out, the whole matrix to prove."""
    monkeypatch.setattr(norms, "_SMALL", small)
    monkeypatch.setattr(norms, "_STRIP", strip)
    monkeypatch.setattr(norms, "_LARGE", large)
    found: set[str] = set()

    @settings(default, max_examples=250)
    @given(convolutions())
    def run(op: Conv) -> None:
        truth = spectral(matrix(op))
        bound = operator_norm(op, "l2", tol=1e-3)
        brackets(bound, truth)
        found.add(bound.method)
        if large:
            assert bound.gap <= 1e-3 or truth == 0

    run()
    assert ("strip" in found) == bool(strip)
    assert ("dense" in found) == bool(large)


@pytest.mark.slow
@settings(default, max_examples=20_000, derandomize=False)
@given(convolutions())
def test_many_more(op: Conv) -> None:
    check(op, defaultdict(list))


def drawn(count: int, sizes: tuple[int, ...], kernel: int, mode: str = "zeros", channels: int = 2) -> list[Conv]:
    generator = torch.Generator().manual_seed(count + sum(sizes) + kernel)
    axes = len(sizes)
    shape = (channels, channels) + (kernel,) * axes
    sides = ((kernel // 2, kernel // 2),) * axes
    return [
        Conv(
            torch.randn(shape, generator=generator, dtype=torch.float64),
            sizes,
            (1 + trial % 2 if mode == "zeros" else 1,) * axes,
            sides,
            (1,) * axes,
            1,
            mode,  # pyright: ignore[reportArgumentType]
        )
        for trial in range(count)
    ]


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("sizes", [(32,), (64,), (200,), (32, 32)], ids=str)
def test_the_circulant_is_within_one_per_cent_on_inputs_of_some_size(sizes: tuple[int, ...], kernel: int) -> None:
    gaps: list[float] = []
    for op in drawn(10 if len(sizes) == 1 else 3, sizes, kernel, channels=2 if len(sizes) == 1 else 1):
        bound = operator_norm(op, "l2", method="circulant")
        truth = spectral(matrix(op))
        brackets(bound, truth)
        gaps.append(bound.upper / truth - 1)
    sys.stdout.write(f"{sizes} kernel {kernel}: median of upper / truth - 1 is {statistics.median(gaps):.2e}\n")
    assert statistics.median(gaps) <= 0.01


def test_the_circulant_is_exact_for_circular_padding_and_single_taps() -> None:
    for op in [*drawn(5, (9, 8), 3, "circular"), *drawn(5, (7, 6), 1)]:
        bound = operator_norm(op, "l2", method="circulant")
        truth = spectral(matrix(op))
        assert bound.upper == pytest.approx(truth, rel=1e-8)
        assert bound.lower == pytest.approx(truth, rel=1e-8)


def test_a_bound_that_is_too_small_by_1e_5_is_caught() -> None:
    """The checks of this file can fail: where a bound is attained, scaling it down is noticed."""
    attained = 0
    for op in [*drawn(5, (9, 8), 3, "circular"), *drawn(5, (7, 6), 3), *drawn(5, (12,), 5, "reflect")]:
        truth = spectral(matrix(op))
        for method in METHODS:
            bound = operator_norm(op, "l2", method=method)
            if bound.upper > truth * (1 + 1e-6):
                continue
            attained += 1
            with pytest.raises(AssertionError, match="too small"):
                brackets(replace(bound, upper=bound.upper * (1 - 1e-5)), truth)
        for norm, axis in (("linf", 1), ("l1", 0)):
            exact = float(matrix(op).abs().sum(axis).max())
            bound = operator_norm(op, norm)
            with pytest.raises(AssertionError, match="too small"):
                brackets(replace(bound, upper=bound.upper * (1 - 1e-5)), exact)
    assert attained >= 30


def test_gram_iteration_finds_the_same_eigenvalues() -> None:
    for op in [*drawn(4, (9, 8), 3), *drawn(4, (7, 6), 3, "circular"), *drawn(4, (12,), 5)]:
        embedded = symbol(op)
        assert embedded is not None
        chunks = [matrices for _, matrices in embedded.grams()]
        for parts, error in ((chunks, embedded.error()), ([dense.grams(op)[0]], dense.grams(op)[1])):
            eigenvalue = EigenvalueBound(parts[0].shape[-1])
            for part in parts:
                eigenvalue.include(part)
            found = max(gram_iteration(part, 1e-4, error)[0] for part in parts)
            assert found >= eigenvalue.tau
            assert found == pytest.approx(eigenvalue.upper + error, rel=1e-4)


def test_the_usual_fft_grid_is_no_bound_for_zero_padding() -> None:
    """The reason for the larger grid: on N = input size the maximum over the frequencies is too small."""
    worst = 1.0
    for op in drawn(20, (3, 3), 3):
        if op.stride != (1, 1):
            continue
        transform = torch.fft.fft2(op.weight, s=(3, 3)).movedim((2, 3), (0, 1))
        usual = float(torch.linalg.svdvals(transform).max())
        truth = spectral(matrix(op))
        worst = min(worst, usual / truth)
        brackets(operator_norm(op, "l2", method="circulant"), truth)
    assert worst < 0.95


@pytest.mark.parametrize("groups", [2, 4])
def test_groups_take_the_maximum(groups: int) -> None:
    parts = drawn(groups, (6, 6), 3)
    stacked = torch.cat([p.weight for p in parts])
    op = Conv(stacked, (6, 6), (1, 1), ((1, 1), (1, 1)), (1, 1), groups)
    each = [operator_norm(replace(op, weight=p.weight, groups=1), "l2") for p in parts]
    assert operator_norm(op, "l2").upper == pytest.approx(max(b.upper for b in each), rel=1e-8)


def test_large_operators_close_the_gap_or_say_that_they_do_not() -> None:
    op = drawn(1, (12, 12), 3, channels=12)[0]
    bound = operator_norm(op, "l2")
    assert bound.gap <= 0.01
    brackets(bound, spectral(matrix(op)))
    reflecting = drawn(1, (64, 64), 3, "reflect", channels=8)[0]
    assert operator_norm(reflecting, "l2").gap > 0.01
