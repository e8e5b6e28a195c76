r"""A proven upper bound on the largest eigenvalue of many Hermitian matrices, by Cholesky factorisations.

An eigenvalue routine gives a number without a proof. The proof is a factorisation: if the Cholesky
factorisation of fl(tau I - G) runs to its end in floating point, then lambda_max(G) <= tau + margin. It costs
a sixth of an eigenvalue decomposition, so it also prunes: only matrices whose factorisation breaks off can
hold the maximum, and only of those an eigenvalue is computed, to raise tau.

The margin. Let A = fl(tau I - G), of size n. Only the diagonal is rounded, by at most u (tau + g_ii) <= 2 u
tau wherever g_ii <= tau (else A has a negative diagonal entry and the factorisation breaks off). If it runs
to its end with factor R, then R^* R = A + E with |E| <= gamma_{n+1} |R^*| |R| (Higham, theorem 10.3; in
complex arithmetic with gamma_{4 (n + 1)} by his lemma 3.5). As R^* R is positive semidefinite,

    lambda_min(A) >= -||E||_2 >= -gamma || |R^*| |R| ||_2 >= -gamma ||R||_F^2
                  >= -gamma / (1 - gamma) trace(A),

because ||R||_F^2 = trace(R^* R) <= trace(A) + gamma ||R||_F^2. With trace(A) <= n tau (1 + 2 u) (G is
positive semidefinite up to its own error, which the caller adds), lambda_max(G) <= tau (1 + 2 u + 2 n gamma).

Source: Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., theorem 10.3; Rump, Verification of
positive definiteness, BIT 46 (2006), who gives the sharper constants.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from torch import Tensor

from robcert.math.rounding import UNIT, complex_gamma, up

_ACCURACY: dict[str, Any] = {"tol": 1e-11}
_WHOLE = 96
"""Up to this size all eigenvalues of a matrix are computed, above it the largest by Lanczos (ARPACK)."""


@dataclass
class EigenvalueBound:
    """The largest eigenvalue of all matrices seen so far.

    Attributes:
        tau: at least (1 - slack) times the largest eigenvalue of every matrix that went through `include`.
        slack: the largest relative step above tau that a factorisation needed.
        index: the number of the matrix that set tau, counted over all calls; -1 before the first.
        vector: (n,) its eigenvector, complex or real.
        seen: how many matrices went through.
    """

    size: int
    tau: float = 0.0
    slack: float = 0.0
    index: int = -1
    vector: Tensor | None = None
    seen: int = 0

    def __post_init__(self) -> None:
        self.slack = max(1e-10, 8 * self.margin)

    @property
    def margin(self) -> float:
        """2 u + 2 n gamma of the module's docstring, relative to tau."""
        return up(2 * UNIT + 2 * self.size * complex_gamma(self.size + 1), 4)

    @property
    def upper(self) -> float:
        """A proven upper bound on the largest eigenvalue of all matrices seen (as stored in float64)."""
        return up(up(self.tau * (1 + self.slack), 4) * (1 + self.margin), 4)

    def include(self, grams: Tensor) -> None:
        """Raise tau until no matrix has an eigenvalue above it.

        Args:
            grams: (count, n, n) Hermitian and positive semidefinite up to rounding, float64 or complex128.
        """
        left = torch.arange(len(grams), device=grams.device)
        rest = grams
        while len(rest):
            if self.tau > 0:
                failed = self._fails(rest)
                left, rest = left[failed], rest[failed]
                if not len(rest):
                    break
            best = int(_estimate(rest).argmax())
            value, vector = largest(rest[best])
            if value > self.tau:
                self.tau, self.vector, self.index = value, vector, self.seen + int(left[best])
            elif self.tau > 0:
                # The eigenvalue was missed by more than the slack: the bound is never too small, only looser.
                if not self.slack < 1:
                    raise ArithmeticError("no finite bound on the largest eigenvalue")
                self.slack *= 8
            else:
                break  # nothing but zeros
        self.seen += len(grams)

    def _fails(self, grams: Tensor) -> Tensor:
        shifted = -grams
        shifted.diagonal(dim1=-2, dim2=-1).add_(up(self.tau * (1 + self.slack), 2))
        if self.size == 1:
            return ~((shifted.real if shifted.is_complex() else shifted).flatten() > 0)
        _, broke_off = torch.linalg.cholesky_ex(shifted)
        return broke_off != 0


def _estimate(grams: Tensor) -> Tensor:
    """A guess at the largest eigenvalue of each matrix, from a few power steps: (count,)."""
    if grams.shape[-1] == 1 or len(grams) == 1:
        diagonal = grams.diagonal(dim1=-2, dim2=-1)
        return (diagonal.real if diagonal.is_complex() else diagonal).amax(-1)
    strongest = grams.diagonal(dim1=-2, dim2=-1).abs().argmax(-1)
    vector = grams[torch.arange(len(grams), device=grams.device), :, strongest].unsqueeze(-1)
    length = vector.abs()
    for _ in range(3):
        vector = vector / torch.linalg.vector_norm(vector, dim=1, keepdim=True).clamp_min(1e-300)
        vector = grams @ vector
        length = torch.linalg.vector_norm(vector, dim=1)
    return length.flatten()


def largest(gram: Tensor) -> tuple[float, Tensor]:
    """The largest eigenvalue and its eigenvector of one Hermitian matrix: not proven, only good."""
    if gram.shape[-1] > _WHOLE:
        from scipy.sparse.linalg import ArpackError, eigsh  # imported where a matrix is so large

        start = numpy.cos(numpy.arange(gram.shape[-1]) * 1.618 + 1).astype(gram.cpu().numpy().dtype)
        try:
            values, vectors = eigsh(gram.cpu().numpy(), k=1, which="LA", v0=start, maxiter=300, **_ACCURACY)
            return float(values[-1]), torch.from_numpy(vectors[:, -1].copy()).to(gram.device)
        except ArpackError:
            pass
    values, vectors = torch.linalg.eigh(gram)
    return float(values[-1]), vectors[:, -1]


@contextmanager
def one_thread() -> Generator[None]:
    """Batched LAPACK on one thread: two threads that contend for it cost up to fifty times as much."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
