"""Average pooling: a product of one matrix an axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from robcert.errors import EvaluationError
from robcert.graph.call import OpCall, per_axis


@dataclass(frozen=True, eq=False)
class Separable:
    """The operator I (x) M_1 (x) ... (x) M_d: every channel alone, one matrix an axis.

    Its norm is the product of the matrices' norms, in l1, l2 and l-inf (Kronecker products).

    Attributes:
        lead: the dimensions in front that the operator leaves alone (channels).
        matrices: (outputs, inputs) float64 an axis, no entry negative.
        error: every entry is within this factor of the real number that it stands for.
    """

    lead: tuple[int, ...]
    matrices: tuple[Tensor, ...]
    error: float = 2.0**-52

    @property
    def in_shape(self) -> tuple[int, ...]:
        """(*lead, *sizes)."""
        return (*self.lead, *(int(m.shape[1]) for m in self.matrices))

    @property
    def out_shape(self) -> tuple[int, ...]:
        """(*lead, *windows)."""
        return (*self.lead, *(int(m.shape[0]) for m in self.matrices))

    def apply(self, x: Tensor) -> Tensor:
        """A x: (n, *in_shape) float64 -> (n, *out_shape)."""
        return self._along(x, [m.to(x.device) for m in self.matrices])

    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y: (n, *out_shape) float64 -> (n, *in_shape)."""
        return self._along(y, [m.T.to(y.device) for m in self.matrices])

    def _along(self, x: Tensor, matrices: list[Tensor]) -> Tensor:
        first = 1 + len(self.lead)
        for axis, matrix in enumerate(matrices, start=first):
            x = (x.movedim(axis, -1) @ matrix.T).movedim(-1, axis)
        return x


def average(
    in_shape: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Separable:
    """Average pooling as torch defines it, over the last axes of ``in_shape``.

    Window t covers [t s - p, t s - p + k); the divisor counts its entries up to n + p (with padding) or
    inside the input (without): a product over the axes. ``divisor_override`` replaces it.
    """
    count = len(kernel)
    matrices: list[Tensor] = []
    for n, k, s, p in zip(in_shape[-count:], kernel, stride, padding, strict=True):
        windows = (n + 2 * p - k + (s - 1 if ceil_mode else 0)) // s + 1
        if ceil_mode and (windows - 1) * s >= n + p:
            windows -= 1  # the last window must begin inside the input or its left padding
        if windows < 1:
            raise EvaluationError(f"a pooling window of {k} does not fit into {n} entries padded by {p}")
        matrix = torch.zeros(windows, n, dtype=torch.float64)
        for t in range(windows):
            start, end = t * s - p, min(t * s - p + k, n + p)
            inside = max(start, 0), min(end, n)
            divisor = end - start if count_include_pad else max(inside[1] - inside[0], 1)
            matrix[t, inside[0] : inside[1]] = 1.0 if divisor_override is not None else 1.0 / divisor
        matrices.append(matrix)
    if divisor_override is not None:
        matrices[0] = matrices[0] / abs(divisor_override)
    return Separable(tuple(in_shape[:-count]), tuple(matrices))


def averages(call: OpCall[Any], shape: tuple[int, ...]) -> Separable:
    """Return the operator of a call of ``avg_pool1d`` to ``avg_pool3d`` on one image of that shape."""
    axes = int(call.op[len("avg_pool")])
    kernel = per_axis(call["kernel_size"], axes)
    sizes = per_axis(call["stride"] or kernel, axes), per_axis(call["padding"], axes)
    modes = bool(call["ceil_mode"]), bool(call["count_include_pad"])
    return average(shape, kernel, *sizes, *modes, call.get("divisor_override"))


def adaptive_average(in_shape: tuple[int, ...], output: tuple[int | None, ...]) -> Separable:
    """Adaptive average pooling as torch defines it: window i covers [floor(i n / m), ceil((i + 1) n / m))."""
    count = len(output)
    matrices: list[Tensor] = []
    for n, given in zip(in_shape[-count:], output, strict=True):
        m = n if given is None else given
        matrix = torch.zeros(m, n, dtype=torch.float64)
        for i in range(m):
            start, end = i * n // m, -(-(i + 1) * n // m)
            matrix[i, start:end] = 1.0 / (end - start)
        matrices.append(matrix)
    return Separable(tuple(in_shape[:-count]), tuple(matrices))
