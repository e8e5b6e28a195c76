"""The bound b(W) on the spectral radius of W^T W, its penalty, and the copies a convolution makes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def absolute_row_sums(matrix: Tensor) -> Tensor:
    """The sums sum_j |M_ij| of the rows of M: (m, n) -> (m,)."""
    return matrix.abs().sum(1)


def gram_bound(weight: Tensor) -> Tensor:
    """The bound b(W) = min(r(W^T W), r(W W^T)) >= rho(W^T W), with r(M) = max_i sum_j |M_ij|.

    Args:
        weight: (outputs, inputs), or (outputs, ...), which is flattened behind the first dimension.

    Returns:
        (), at least the square of the largest singular value of W.

    Source: L2-Nonexpansive Neural Networks, section 2.1, eq. 2.
    """
    matrix = weight.flatten(1)
    # The smaller Gram matrix mostly has the smaller r; the larger one is formed only where it could decide.
    small, large = (matrix, matrix.T) if matrix.shape[0] <= matrix.shape[1] else (matrix.T, matrix)
    bound = absolute_row_sums(small @ small.T).amax()
    # Asking a GPU would cost more than it saves.
    if weight.device.type == "cpu" and bool(_one_row_sum(large.detach()) >= bound.detach()):
        return bound
    return torch.minimum(bound, absolute_row_sums(large @ large.T).amax())


def _one_row_sum(matrix: Tensor) -> Tensor:
    """The sum of |M_ij| over the row i of M = A A^T that belongs to the longest row of A: at most r(M)."""
    longest = matrix.square().sum(1).argmax()
    return (matrix @ matrix[longest]).abs().sum()


def gram_penalty(weight: Tensor) -> Tensor:
    """The penalty L_W = min(l(W^T W), l(W W^T)), with l(M) = sum_i max(sum_j |M_ij| - 1, 0).

    It is zero if and only if b(W) <= 1.

    Args:
        weight: (outputs, ...), flattened behind the first dimension.

    Returns:
        (), not negative.

    Source: L2-Nonexpansive Neural Networks, appendix A.1, eq. 7.
    """
    matrix = weight.flatten(1)
    columns = (absolute_row_sums(matrix.T @ matrix) - 1).clamp_min(0).sum()
    rows = (absolute_row_sums(matrix @ matrix.T) - 1).clamp_min(0).sum()
    return torch.minimum(columns, rows)


def copies(kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int] | None = None) -> int:
    """Return how many windows contain one input entry at most: prod_d ceil(K_d g_d / S_d), g_d = gcd(S_d, D_d).

    With dilation D the K taps of a window lie D apart, so that S / gcd(S, D) of them in turn are read from
    different places modulo the stride: with K = 3, S = D = 2 an entry is read 3 times, not ceil(3 / 2) times.
    With D = 1 it is the paper's prod_d ceil(K_d / S_d). True for zero padding on images of any size; other
    paddings copy entries of the border once more (`counted_copies`).

    Source: L2-Nonexpansive Neural Networks, sections 2.1 (convolution) and 2.3 (pooling).
    """
    dilation = [1] * len(kernel) if dilation is None else dilation
    return math.prod(-(-k * math.gcd(s, d) // s) for k, s, d in zip(kernel, stride, dilation, strict=True))


def counted_copies(
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
    mode: str,
) -> int:
    """Return how many times one input entry is read at most, counted for images of one size.

    With zero padding at most `copies`; with reflection, replication or wrapping, in which entries of the border
    have further copies, it may be more.

    Args:
        size: of the image, an axis each, as all that follow.
        kernel: taps.
        stride: between two windows.
        padding: entries added before and after.
        dilation: between two taps.
        mode: "zeros", "reflect", "replicate" or "circular".
    """
    return math.prod(
        _counted(n, k, s, p, d, mode) for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True)
    )


def _counted(n: int, kernel: int, stride: int, padding: tuple[int, int], dilation: int, mode: str) -> int:
    before, after = padding
    places: list[int | None] = []
    for i in range(-before, n + after):
        if 0 <= i < n:
            places.append(i)
        elif mode == "zeros":
            places.append(None)
        elif mode == "reflect":
            places.append(-i if i < 0 else 2 * (n - 1) - i)
        elif mode == "replicate":
            places.append(0 if i < 0 else n - 1)
        elif mode == "circular":
            places.append(i % n)
        else:
            raise ValueError(f"unknown padding mode {mode!r}: zeros, reflect, replicate or circular was expected")
    counts = [0] * n
    for start in range(0, len(places) - dilation * (kernel - 1), stride):
        for tap in range(kernel):
            place = places[start + dilation * tap]
            if place is not None:
                counts[place] += 1
    return max(counts, default=0)
