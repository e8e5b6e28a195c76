"""Convolutions as linear operators on a given input size."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from robcert.errors import EvaluationError

Mode = Literal["zeros", "circular", "reflect", "replicate"]
MODES: tuple[Mode, ...] = get_args(Mode)

_FORWARD = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSED = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}


@dataclass(frozen=True, eq=False)
class Conv:
    """A convolution, y[o, t] = sum over c, k of W[o, c, k] x[c, source(t s + k d - low)], axis by axis.

    ``source`` is the index itself inside the input; outside it is nothing (zeros), the index modulo the size
    (circular), mirrored without the edge (reflect) or the nearest one (replicate).

    Attributes:
        weight: (outputs, inputs / groups, *kernel) float64, one, two or three axes.
        size: the input's size, an axis.
        stride: an axis.
        padding: (low, high) an axis. Negative values drop entries (zero padding only).
        dilation: an axis.
        groups: the operator is a direct sum of this many.
        mode: what stands in the padding.

    Raises:
        EvaluationError: the kernel does not fit into the padded input, or the padding not around the input.
    """

    weight: Tensor
    size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int = 1
    mode: Mode = "zeros"

    def __post_init__(self) -> None:
        if self.weight.dtype != torch.float64:
            object.__setattr__(self, "weight", self.weight.detach().double())
        if self.mode not in MODES:
            raise EvaluationError(f"unknown padding mode {self.mode!r}", f"Known: {', '.join(MODES)}.")
        if min(self.windows) < 1:
            raise EvaluationError(
                f"a convolution with kernel {self.kernel}, dilation {self.dilation} and padding "
                f"{self.padding} does not fit into an input of size {self.size}",
                "Give a larger --input-shape.",
            )
        for size, (low, high) in zip(self.size, self.padding, strict=True):
            limit = {"circular": size, "reflect": size - 1}.get(self.mode)
            too_much = limit is not None and max(low, high) > limit
            if too_much or (self.mode != "zeros" and min(low, high) < 0):
                raise EvaluationError(f"{self.mode} padding by {low, high} cannot be made around {size} entries")

    @property
    def kernel(self) -> tuple[int, ...]:
        """The kernel's size, an axis."""
        return tuple(self.weight.shape[2:])

    @property
    def axes(self) -> int:
        """The number of axes: 1, 2 or 3."""
        return len(self.size)

    @cached_property
    def windows(self) -> tuple[int, ...]:
        """The output's size T, an axis: floor((n + low + high - d (k - 1) - 1) / s) + 1."""
        parts = zip(self.size, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        return tuple((n + low + high - d * (k - 1) - 1) // s + 1 for n, k, s, (low, high), d in parts)

    @property
    def in_shape(self) -> tuple[int, ...]:
        """(inputs, *size)."""
        return (self.weight.shape[1] * self.groups, *self.size)

    @property
    def out_shape(self) -> tuple[int, ...]:
        """(outputs, *windows)."""
        return (self.weight.shape[0], *self.windows)

    @cached_property
    def reach(self) -> tuple[int, ...]:
        """The number of entries of the padded input that are read, an axis: (T - 1) s + d (k - 1) + 1."""
        parts = zip(self.windows, self.kernel, self.stride, self.dilation, strict=True)
        return tuple((t - 1) * s + d * (k - 1) + 1 for t, k, s, d in parts)

    @cached_property
    def _pad(self) -> list[int]:
        """Zero padding, or cropping, for ``functional.pad``: the last axis first."""
        parts = zip(self.reach, self.size, self.padding, strict=True)
        return [side for r, n, (low, _) in reversed(list(parts)) for side in (low, r - low - n)]

    @cached_property
    def kernel_sums(self) -> tuple[float, float]:
        """The largest sum of |W| over all taps that an output channel reads, and that an input channel is read by."""
        size = self.weight.abs()
        per_input = size.view(self.groups, -1, *size.shape[1:]).transpose(1, 2).flatten(2).sum(2)
        return float(size.flatten(1).sum(1).max()), float(per_input.max())

    def sources(self, axis: int) -> Tensor:
        """Return the source of every padded position of an axis: (reach,) int64, -1 for nothing."""
        n, low = self.size[axis], self.padding[axis][0]
        position = torch.arange(self.reach[axis]) - low
        if self.mode == "zeros":
            return torch.where((position >= 0) & (position < n), position, -1)
        if self.mode == "circular":
            return position % n
        if self.mode == "replicate":
            return position.clamp(0, n - 1)
        mirrored = position.abs()
        return torch.where(mirrored >= n, 2 * (n - 1) - mirrored, mirrored)

    def taps(self, axis: int) -> Tensor:
        """Return the source of tap k of window t: (windows, kernel) int64, -1 for nothing."""
        starts = torch.arange(self.windows[axis]) * self.stride[axis]
        offsets = torch.arange(self.kernel[axis]) * self.dilation[axis]
        return self.sources(axis)[starts[:, None] + offsets]

    def apply(self, x: Tensor) -> Tensor:
        """A x: (n, *in_shape) float64 -> (n, *out_shape)."""
        if self.mode == "zeros":
            x = _padded(x, self._pad)
        else:
            for axis in range(self.axes):
                x = x.index_select(axis + 2, self.sources(axis).to(x.device))
        weight = self.weight.to(x.device)
        return _FORWARD[self.axes](x, weight, None, self.stride, 0, self.dilation, self.groups)

    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y: (n, *out_shape) float64 -> (n, *in_shape)."""
        weight = self.weight.to(y.device)
        x = _TRANSPOSED[self.axes](y, weight, None, self.stride, 0, 0, self.groups, self.dilation)
        if self.mode == "zeros":
            return _padded(x, [-side for side in self._pad])
        for axis in range(self.axes):
            shape = list(x.shape)
            shape[axis + 2] = self.size[axis]
            x = x.new_zeros(shape).index_add_(axis + 2, self.sources(axis).to(x.device), x)
        return x

    def trimmed(self) -> Conv:
        """The same operator without the outer taps that never meet the input, and with 0 for the inner ones.

        Zero padding only; other operators are returned as they are.
        """
        if self.mode != "zeros":
            return self
        weight, padding = self.weight, list(self.padding)
        for axis in range(self.axes):
            used = (self.taps(axis) >= 0).any(0)
            if bool(used.all()) or not bool(used.any()):
                continue
            where = used.nonzero().flatten()
            first, last = int(where[0]), int(where[-1])
            shape = [1] * weight.dim()
            shape[axis + 2] = -1
            weight = (weight * used.to(weight).view(shape)).narrow(axis + 2, first, last - first + 1)
            low, high = padding[axis]
            cut = self.dilation[axis]
            padding[axis] = (low - first * cut, high - (self.kernel[axis] - 1 - last) * cut)
        if weight is self.weight:
            return self
        return Conv(weight, self.size, self.stride, tuple(padding), self.dilation, self.groups)

    def copies(self) -> int:
        """Return the largest number of padded positions that hold one input entry: 1 for zeros."""
        most = 1
        for axis in range(self.axes):
            source = self.sources(axis)
            counts = torch.bincount(source[source >= 0], minlength=1)
            most *= max(1, int(counts.max()))
        return most


@dataclass(frozen=True, eq=False)
class ConvTranspose:
    """A transposed convolution: the adjoint of ``forward``, a convolution of the output's size."""

    forward: Conv

    @property
    def in_shape(self) -> tuple[int, ...]:
        """The output shape of ``forward``."""
        return self.forward.out_shape

    @property
    def out_shape(self) -> tuple[int, ...]:
        """The input shape of ``forward``."""
        return self.forward.in_shape

    def apply(self, x: Tensor) -> Tensor:
        """A x = F^T x: (n, *in_shape) float64 -> (n, *out_shape)."""
        return self.forward.adjoint(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y = F y: (n, *out_shape) float64 -> (n, *in_shape)."""
        return self.forward.apply(y)


def transposed(
    weight: Tensor,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int = 1,
    output_padding: tuple[int, ...] | None = None,
) -> ConvTranspose:
    """The transposed convolution as torch defines it.

    Its output has (n - 1) s - 2 p + d (k - 1) + e + 1 entries an axis.

    Args:
        weight: (inputs, outputs / groups, *kernel), the layout of torch's transposed layers.
        size: the input's size n, an axis.
        stride: s.
        padding: p.
        dilation: d.
        groups: a direct sum of this many.
        output_padding: e, an axis; default 0.
    """
    kernel = tuple(weight.shape[2:])
    extra = output_padding or (0,) * len(size)
    parts = list(zip(size, kernel, stride, padding, dilation, extra, strict=True))
    output = tuple((n - 1) * s - 2 * p + d * (k - 1) + e + 1 for n, k, s, p, d, e in parts)
    if min(output) < 1:
        raise EvaluationError(f"a transposed convolution of an input of size {size} has no output: {output}")
    # The forward convolution shall have exactly n windows: the entries behind the last one are not read.
    sides = tuple(
        (p, (n - 1) * s + d * (k - 1) + 1 - p - m) for (n, k, s, p, d, _), m in zip(parts, output, strict=True)
    )
    return ConvTranspose(Conv(weight, output, stride, sides, dilation, groups))


def _padded(x: Tensor, sides: list[int]) -> Tensor:
    """Zero padding, then cropping where a side is negative; ``sides`` as for ``functional.pad``.

    Unlike ``functional.pad``, which crops first, this may crop away what it padded on the other side.
    """
    x = functional.pad(x, [max(side, 0) for side in sides])
    for index, (low, high) in enumerate(zip(sides[::2], sides[1::2], strict=True)):
        axis = x.dim() - 1 - index
        if low < 0 or high < 0:
            x = x.narrow(axis, max(-low, 0), x.shape[axis] - max(-low, 0) - max(-high, 0))
    return x
