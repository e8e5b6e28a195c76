r"""The l2 norm of a convolution from above: embedded in a circulant, one small matrix a frequency.

**One axis.** y[t] = sum_k w_k x[t s + k d - p] for t = 0 .. T - 1, with x = 0 outside 0 .. n - 1. Windows and
taps that never meet the input and entries that are never read are left out first. The positions t s + k d - p
then run from -p to J. Let N be a multiple of s with

    N >= n + max(p, J + 1 - n)  and  N >= T s.

Then a position j < 0 read modulo N is j + N >= n, and a position j >= n is at most N - 1: both read a zero,
so the left and the right padding may share their space. So the convolution is P C E: E extends by zeros to
Z_N, C is the circular convolution on Z_N with outputs at the multiples of s, P keeps T of its N / s outputs.
||P|| = ||E|| = 1.

**Stride.** Write k d - p = q s + r with 0 <= r < s, and x_r[m] = x[m s + r]: C is a convolution of stride 1
on Z_M, M = N / s, whose input channels are the pairs (c, r). (The same as to join the s aliased blocks of C's
spectrum and to divide by sqrt(s): the two differ by a unitary matrix.)

**Frequencies.** The discrete Fourier transform is unitary up to a factor, and takes C to the blocks
B(g) = sum_q V_q exp(2 pi i g q / M), V_q of shape (outputs, channels r). So ||C|| = max_g ||B(g)||, and real
weights need half of the frequencies of the last axis. Several axes: the same in each. Groups: a direct sum,
so the maximum.

**Gram matrices.** Of the smaller side, G(g) = B B^* = sum over offsets of D(delta) exp(2 pi i g delta / M)
with D(delta) = sum over q - q' = delta of V_q V_q'^T: the products of the taps are formed once, not once a
frequency.

**Rounding.** With b the inner size, Q taps, L offsets: D is off by at most gamma_{b Q} S(delta), where S is
the same sum of |V_q| |V_q'|^T; a cosine or sine of 2 pi m / M', m < M' integers, is off by at most 32 u
(argument: relative error 3 u of at most 2 pi; function: 2 ulp); the sum over the offsets by gamma_{2 L + 4}.
Together

    |fl(G) - G| <= gamma_{b Q + 2 L + 64} sum_delta S(delta),
    ||fl(G) - G||_2 <= gamma_{b Q + 2 L + 64} (sum_q ||V_q||_F)^2.

Source: Sedghi, Gupta & Long (2019) for the circular case; the embedding is that of Toeplitz in circulant
matrices.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from robcert.bounds.lipschitz.convolution import Conv
from robcert.math.rounding import gamma, up

_CACHE = 4 * 2**20
"""Bytes of Gram matrices taken at a time: they are read often, and best from a cache."""
_MOST = 2**28
"""Bytes at most where a chunk is larger because the matrices are: 16 at least are formed by one product."""


@dataclass(frozen=True)
class Axis:
    """The embedding of one axis: tap k reads position ``steps[k] s + phases[k]`` relative to window t s.

    Attributes:
        period: M = N / s, the number of frequencies.
        steps: q of each tap.
        phases: r of each tap.
    """

    period: int
    steps: tuple[int, ...]
    phases: tuple[int, ...]


def embed(op: Conv, axis: int) -> Axis | None:
    """The embedding of an axis, or None where the padding cannot be embedded (the module's docstring)."""
    n, k, s, d = op.size[axis], op.kernel[axis], op.stride[axis], op.dilation[axis]
    low, windows = op.padding[axis][0], op.windows[axis]
    if op.mode == "circular":
        if n % s or windows * s > n:
            return None
        return _axis(n // s, k, s, d, low)
    if op.mode != "zeros":
        return None
    useful = (op.taps(axis) >= 0).any(1).nonzero().flatten()
    if len(useful):  # drop the windows in front and behind that see padding alone
        low -= int(useful[0]) * s
        windows = int(useful[-1] - useful[0]) + 1
    last = (windows - 1) * s + (k - 1) * d - low
    begin, end = max(0, -low), min(n, last + 1)
    inside = max(1, end - begin)
    least = max(inside + max(low + begin, last + 1 - end, 0), windows * s)
    return _axis(-(-least // s), k, s, d, low)


def _axis(period: int, k: int, s: int, d: int, low: int) -> Axis:
    positions = [tap * d - low for tap in range(k)]
    steps = [p // s for p in positions]
    if len(set(steps)) == 1:  # one position: a phase factor, the same at every frequency
        period, steps = 1, [0] * k
    return Axis(period, tuple(q - min(steps) for q in steps), tuple(p % s for p in positions))


@dataclass(frozen=True)
class Symbol:
    """A convolution of stride 1 on a torus, as its taps.

    Attributes:
        taps: (groups, Q, n, b) float64, V_q or its transpose: n is the smaller side.
        positions: (Q, axes) int64.
        periods: an axis.
        transposed: n is the input side.
        phases: the phases r of the input side, an axis (all that occur), in the order of the channels (c, r).
    """

    taps: Tensor
    positions: Tensor
    periods: tuple[int, ...]
    transposed: bool
    phases: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        """The side of a Gram matrix."""
        return int(self.taps.shape[2])

    def error(self) -> float:
        """The bound on ||fl(G) - G||_2 of the module's docstring."""
        count, inner = self.taps.shape[1], self.taps.shape[3]
        total = float(torch.linalg.vector_norm(self.taps, dim=(2, 3)).sum(1).max())
        total = up(total, 4 + self.taps.numel())
        return up(gamma(inner * count + 2 * len(self.offsets()[0]) + 64) * up(total * total, 2), 4)

    def offsets(self) -> tuple[Tensor, list[list[tuple[int, int]]]]:
        """The differences q - q' that are lexicographically not negative (L, axes), and the pairs of each."""
        found: dict[tuple[int, ...], list[tuple[int, int]]] = {}
        places = [tuple(p) for p in self.positions.tolist()]
        for (i, p), (j, q) in product(enumerate(places), enumerate(places)):
            offset = tuple(a - b for a, b in zip(p, q, strict=True))
            if offset >= (0,) * len(offset):
                found.setdefault(offset, []).append((i, j))
        return torch.tensor(list(found)), list(found.values())

    def frequencies(self) -> tuple[Tensor, int]:
        """Half of the torus: (F, axes) int64, and how many of them come first: a coarse grid.

        On it a large eigenvalue is met early.
        """
        last = self.periods[-1] // 2 + 1
        ranges = [torch.arange(m) for m in (*self.periods[:-1], last)]
        grid = torch.cartesian_prod(*ranges).view(-1, len(ranges))
        strides = torch.tensor([max(1, m // 6) for m in self.periods])
        coarse = ((grid % strides) == 0).all(1)
        return torch.cat([grid[coarse], grid[~coarse]]), int(coarse.sum())

    def grams(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Chunks of (frequencies (F, axes), Gram matrices (F groups, n, n)), F-major."""
        offsets, pairs = self.offsets()
        groups, _, n, _ = self.taps.shape
        products: list[Tensor] = []
        for some in pairs:
            left = self.taps[:, [i for i, _ in some]].transpose(1, 2).flatten(2)
            right = self.taps[:, [j for _, j in some]].transpose(1, 2).flatten(2)
            products.append(left @ right.transpose(1, 2))
        d = torch.stack(products)  # (L, groups, n, n)
        zero = (offsets == 0).all(1)
        even = torch.where(zero.view(-1, 1, 1, 1).to(d.device), d, d + d.transpose(2, 3)).flatten(1)
        odd = (d - d.transpose(2, 3)).flatten(1)
        where, coarse = self.frequencies()
        each = 16 * groups * n * n
        size = max(1, _CACHE // each, min(16, _MOST // each))
        for some in (*where[:coarse].split(size), *where[coarse:].split(size)):
            cosine, sine = _table(some, offsets, self.periods)
            real = cosine.to(d.device) @ even
            imaginary = sine.to(d.device) @ odd
            if self.transposed:
                imaginary = -imaginary
            yield some, torch.complex(real, imaginary).view(-1, n, n)


def _table(frequencies: Tensor, offsets: Tensor, periods: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The cosine and sine of 2 pi sum over the axes of g delta / M: (F, L) each.

    The sum is an exact integer modulo prod M over prod M.
    """
    whole = math.prod(periods)
    weights = torch.tensor([whole // m for m in periods])
    turns = (frequencies * weights) @ offsets.T % whole
    angle = turns.double() * (2 * math.pi) / whole
    return angle.cos(), angle.sin()


def symbol(op: Conv) -> Symbol | None:
    """The taps of the embedded convolution, or None where an axis cannot be embedded."""
    axes = [embed(op, axis) for axis in range(op.axes)]
    if any(axis is None for axis in axes):
        return None
    known = [axis for axis in axes if axis is not None]
    phases = tuple(tuple(sorted(set(axis.phases))) for axis in known)
    weight = op.weight.view(op.groups, -1, *op.weight.shape[1:])
    groups, outputs, inputs = weight.shape[:3]
    joined: dict[tuple[int, ...], Tensor] = {}
    for tap in product(*(range(k) for k in op.kernel)):
        position = tuple(axis.steps[k] for axis, k in zip(known, tap, strict=True))
        phase = tuple(p.index(axis.phases[k]) for axis, p, k in zip(known, phases, tap, strict=True))
        empty = weight.new_zeros(groups, outputs, inputs, *(len(p) for p in phases))
        block = joined.setdefault(position, empty)
        block[(slice(None), slice(None), slice(None), *phase)] += weight[(slice(None),) * 3 + tap]
    taps = torch.stack([block.flatten(2) for block in joined.values()], 1)
    narrow = taps.shape[3] < taps.shape[2]
    taps = taps.transpose(2, 3).contiguous() if narrow else taps
    return Symbol(taps, torch.tensor(list(joined)), tuple(axis.period for axis in known), narrow, phases)


def wave(op: Conv, found: Symbol, index: int, vector: Tensor) -> Tensor:
    """A vector that the embedded convolution nearly stretches by its norm: (1, *in_shape).

    A plane wave of the frequency that holds the maximum, its channels the eigenvector; under zero padding
    times a half sine an axis, which vanishes at the border and spreads the frequency least.

    Args:
        op: the convolution.
        found: its symbol.
        index: which of the matrices of ``Symbol.grams``, counted over all chunks.
        vector: (n,) the eigenvector of that matrix.
    """
    groups = found.taps.shape[0]
    frequency, group = found.frequencies()[0][index // groups], index % groups
    shape = op.in_shape if found.transposed else op.out_shape
    grid = vector.new_ones(shape[1:], dtype=torch.complex128)
    channels = shape[0] // groups
    block = torch.zeros(channels, *shape[1:], dtype=torch.complex128, device=vector.device)
    for axis, size in enumerate(shape[1:]):
        place = torch.arange(size)
        turn = place // op.stride[axis] if found.transposed else place
        angle = (turn * frequency[axis] % found.periods[axis]).double() * (2 * math.pi / found.periods[axis])
        line = torch.polar(torch.ones_like(angle), angle)
        if op.mode == "zeros" and found.periods[axis] > 1:
            line = line * torch.sin((place + 1).double() * (math.pi / (size + 1)))
        grid = grid * line.to(vector.device).view(-1, *([1] * (op.axes - 1 - axis)))
    if not found.transposed:
        block = vector.to(grid.dtype).view(-1, *([1] * op.axes)) * grid
    else:
        parts = vector.to(grid.dtype).view(channels, *(len(p) for p in found.phases))
        for where in product(*(range(len(p)) for p in found.phases)):
            slots = [slice(found.phases[a][w], None, op.stride[a]) for a, w in enumerate(where)]
            own = parts[(slice(None), *where)].view(-1, *([1] * op.axes))
            block[(slice(None), *slots)] = own * grid[tuple(slots)]
    full = torch.zeros(1, *shape, dtype=torch.float64, device=vector.device)
    full[0, group * channels : (group + 1) * channels] = block.real
    return full if found.transposed else op.adjoint(full)
