"""The l2 norms that papers use for a layer, for comparison: plain float64, never what a certificate uses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from robcert.bounds.lipschitz.convolution import Conv, ConvTranspose
from robcert.bounds.lipschitz.lanczos import norm_lower_bound, start, top_singular_vector
from robcert.bounds.lipschitz.operators import Dense, LinearOperator
from robcert.nn.bounds import gram_bound

LARGE = 1 << 23
"""Entries of a matrix up to which it is decomposed, and both of its Gram matrices are formed."""


@dataclass(frozen=True)
class PaperNorm:
    """The number that a paper computes for a layer.

    Attributes:
        name: short, for a column of a table.
        value: the number.
        bound: True if it is an upper bound of the layer's l2 norm.
        note: the source, and what it is not.
    """

    name: str
    value: float
    bound: bool
    note: str


def paper_norms(op: LinearOperator) -> tuple[PaperNorm, ...]:
    """Every comparison for a convolution or a matrix; nothing for other operators."""
    if isinstance(op, ConvTranspose):
        return paper_norms(op.forward)
    if not isinstance(op, Conv | Dense):
        return ()
    reshaped = "Miyato et al. (2018): the kernel reshaped to a matrix"
    label = "" if isinstance(op, Dense) else "; not a bound of the layer"
    return (
        PaperNorm("eq. 3", equation_3(op), True, "Liang & Huang (2021), eq. 3, with counted copies"),
        PaperNorm("b(W)", copied_gram_bound(op), True, "Qian & Wegman (2019), eq. 2, times the copying factor"),
        PaperNorm("Frobenius", frobenius(op), True, "of the whole matrix"),
        PaperNorm("reshaped", reshaped_norm(op), isinstance(op, Dense), reshaped + label),
    )


def equation_3(op: Conv | Dense) -> float:
    """The bound sqrt(h_out w_out sum K^2), the Frobenius norm as if every window saw the whole kernel.

    With padding that copies entries, taps add up: times the copies of an entry, or it would be no bound.

    Source: Large Norms of CNN Layers Do Not Hurt Adversarial Robustness, theorem 1, eq. 3.
    """
    if isinstance(op, Dense):
        return frobenius(op)
    return math.sqrt(math.prod(op.windows) * float(op.weight.square().sum()) * op.copies())


def copied_gram_bound(op: Conv | Dense) -> float:
    """The bound sqrt(b(W) K), b(W) = min(r(W^T W), r(W W^T)) of the reshaped kernel, K the copies of an entry.

    Of a matrix of more than `LARGE` entries only the smaller Gram matrix is taken.

    K is counted: the largest number of pairs (window, tap) that read one input entry; with zero padding,
    dilation 1 and a large input it is the paper's prod ceil(K_i / S_i).

    Source: L2-Nonexpansive Neural Networks, eq. 2 and section 2.1.
    """
    if isinstance(op, Dense):
        matrix = op.matrix if op.matrix.shape[0] <= op.matrix.shape[1] else op.matrix.T
        if op.matrix.numel() <= LARGE:
            return math.sqrt(float(gram_bound(matrix)))
        # The larger Gram matrix takes a minute and gigabytes; r of the smaller one is a bound, too.
        return math.sqrt(max(float((part @ matrix.T).abs().sum(1).max()) for part in matrix.split(256)))
    worst = max(float(gram_bound(part)) for part in op.weight.view(op.groups, -1, *op.weight.shape[1:]))
    count = 1
    for axis in range(op.axes):
        sources = op.taps(axis).flatten()
        count *= int(torch.bincount(sources[sources >= 0], minlength=1).max())
    return math.sqrt(worst * count)


def reshaped_norm(op: Conv | Dense) -> float:
    """The largest singular value of the kernel reshaped to (outputs, inputs taps), as in spectral normalisation.

    Not a bound of a convolution: the layer's norm may be larger by up to the root of the number of taps.

    Source: Miyato et al. (2018), Spectral normalization for generative adversarial networks.
    """
    matrix = op.matrix if isinstance(op, Dense) else op.weight.flatten(1)
    if matrix.numel() > LARGE:  # Lanczos: to more digits than are printed, not to all
        matrix = Dense(matrix)
        return norm_lower_bound(matrix, top_singular_vector(matrix, start(matrix), steps=200, rest=1e-6))
    return float(torch.linalg.matrix_norm(matrix, 2))


def frobenius(op: Conv | Dense) -> float:
    """The Frobenius norm of the operator's whole matrix.

    ||A||_F^2 = sum over taps k, k' of <W_k, W_k'> times the windows in which k and k' read the same input
    entry.
    """
    if isinstance(op, Dense):
        return float(torch.linalg.vector_norm(op.matrix))
    together: list[Tensor] = []
    for axis in range(op.axes):
        taps = op.taps(axis)
        same = (taps[:, :, None] == taps[:, None, :]) & (taps[:, :, None] >= 0)
        together.append(same.sum(0))
    total = 0.0
    for first in product(*(range(k) for k in op.kernel)):
        meeting = [counts[k].nonzero().flatten().tolist() for k, counts in zip(first, together, strict=True)]
        for second in product(*meeting):
            windows = math.prod(int(c[k, j]) for k, j, c in zip(first, second, together, strict=True))
            one, other = op.weight[(..., *first)], op.weight[(..., *second)]
            total += windows * float((one * other).sum())
    return math.sqrt(max(total, 0.0))
