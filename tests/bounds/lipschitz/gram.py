"""Gram iteration: an upper bound on the largest eigenvalue by squaring, without any factorisation.

For a Hermitian positive semidefinite G, ||G^(2^k)||_F^(1 / 2^k) falls to lambda_max(G) with k, from above and
fast: it is at most n^(1 / 2^(k + 1)) times as large. It shares nothing with the Cholesky factorisations of robcert, so
that each bound checks the other.

Rounding. Let H_k be the stored matrix, X_k the one that it stands for, both divided by s_k, with ||H_k||_F <= 1 and
||H_k - X_k||_F <= e_k. The product is off by at most gamma ||H_k||_F^2 <= gamma (gamma_{4 n} for complex
matrices), so before the next division e_{k+1} <= 2 e_k + e_k^2 + gamma, and
lambda_max(X_k)^(2^k) <= ||H_k||_F + e_k; the logarithms of the scales are added, their rounding is 2^-40 at
most.

Source: Delattre et al. (2023), Efficient bound of Lipschitz constant for convolutional layers by Gram
iteration (whose FFT grid of the input's own size is no bound for zero padding: the grid here is
`circulant.embed`'s).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robcert.math.rounding import complex_gamma, gamma, up


def gram_iteration(grams: Tensor, tol: float, error: float = 0.0) -> tuple[float, int]:
    """An upper bound on the largest eigenvalue of all matrices, and which one it is from.

    Args:
        grams: (count, n, n) Hermitian, positive semidefinite up to ``error``.
        tol: square until n^(1 / 2^(k + 1)) <= 1 + tol.
        error: a bound on ||G - X||_2 for the matrices X that are meant; added at the end.

    Returns:
        The bound, rounded up, and the index of the matrix that has it.
    """
    n = int(grams.shape[-1])
    lengths = torch.linalg.vector_norm(grams.flatten(1), dim=1)
    alive = lengths > 0
    if not bool(alive.any()):
        return (up(error, 2) if error else 0.0), 0
    where = alive.nonzero().flatten()
    slack = 1 + 4 * gamma(n * n + 4)  # the computed lengths may be too small by this
    scale = (lengths[where] * slack).log()
    matrix = grams[where] / (lengths[where] * slack).view(-1, 1, 1)
    off = torch.full_like(scale, complex_gamma(2))
    power = 1
    while math.log(n) / (2 * power) > math.log1p(tol) and power < 2**12:
        matrix = matrix @ matrix
        off = 2 * off + off * off + complex_gamma(n + 2)
        length = (torch.linalg.vector_norm(matrix.flatten(1), dim=1) * slack).clamp_min(1e-280)
        matrix = matrix / length.view(-1, 1, 1)
        off = off / length + complex_gamma(2)
        power *= 2
        scale = 2 * scale + length.log()
    # lambda^power <= exp(scale) (||H||_F + off), and ||H||_F <= 1.
    values = (scale + torch.log1p(off)) / power
    best = int(values.argmax())
    bound = math.exp(float(values[best])) * (1 + 2.0**-40 * (1 + abs(float(values[best]))))
    return up(bound + error, 4), int(where[best])
