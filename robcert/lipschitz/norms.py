"""The norm of a linear operator, from below and from above."""

from __future__ import annotations

from typing import Literal

from robcert.lipschitz.operators import Bound, LinearOperator
from robcert.types import Norm

Method = Literal["auto", "dense", "circulant", "gram", "lanczos"]


def operator_norm(op: LinearOperator, norm: Norm, *, tol: float = 0.01, method: Method = "auto") -> Bound:
    """The norm sup ||A x|| / ||x|| of a linear operator on its input size.

    l1 and l-inf are exact up to the stated rounding for every operator; l2 is a bracket.

    Args:
        op: see `robcert.lipschitz.operators`.
        norm: of input and output.
        tol: refine l2 until (upper - lower) / lower <= tol, where that is possible: see ``Bound.gap``.
        method: which way to the upper bound of l2; "auto" takes the cheapest that reaches ``tol``.

    Returns:
        Bound: lower <= norm <= upper in real arithmetic, rounded outwards.
    """
    raise NotImplementedError
