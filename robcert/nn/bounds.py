"""The bound b(W) on the spectral radius of W^T W, its penalty, and the copies a convolution makes."""

from __future__ import annotations

import math

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
    columns = absolute_row_sums(matrix.T @ matrix).amax()
    rows = absolute_row_sums(matrix @ matrix.T).amax()
    return torch.minimum(columns, rows)


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


def copies(kernel: tuple[int, ...], stride: tuple[int, ...]) -> int:
    """How many windows contain one input entry at most: prod_d ceil(K_d / S_d).

    True for zero padding and dilation 1 only: other paddings copy entries of the border once more.

    Source: L2-Nonexpansive Neural Networks, sections 2.1 (convolution) and 2.3 (pooling).
    """
    return math.prod(-(-k // s) for k, s in zip(kernel, stride, strict=True))
