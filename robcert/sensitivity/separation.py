r"""The Lipschitz constant of a data set: how steep a function that fits its labels has to be.

:math:`L = 1 / \min \|x_i - x_j\|_2` over all pairs of images of different classes (paper E, section 6 and table 4):
one-hot labels of two classes lie 1 apart in the largest entry.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from robcert.errors import EvaluationError
from robcert.types import Dataset

BLOCK = 2048
"""Images of a class that are compared at once: 2 blocks of 784 entries and 4 million distances take 30 MB."""
_ENTRIES = 1 << 22
"""The most entries that are measured again at once."""


@dataclass(frozen=True)
class Separation:
    """The closest two images of different classes.

    Attributes:
        distance: their l2 distance in float64; 0 for equal images with different labels.
        first, second: their indices in the split, ``first`` of the class with the smaller number.
        labels: their labels.
        duplicates: pairs of equal images with different labels that were left out.
    """

    distance: float
    first: int
    second: int
    labels: tuple[int, int]
    duplicates: int

    @property
    def lipschitz(self) -> float:
        """The reciprocal of the distance; infinite where equal images have different labels."""
        return 1 / self.distance if self.distance > 0 else math.inf


def comparisons(data: Dataset) -> int:
    """Return the number of blocks that `separation` will compare."""
    blocks = [math.ceil(int((data.y == label).sum()) / BLOCK) for label in data.y.unique()]
    return (sum(blocks) ** 2 - sum(count**2 for count in blocks)) // 2


def separation(
    data: Dataset, exclude_duplicates: bool = False, advance: Callable[[float], None] = lambda _: None
) -> Separation:
    r"""The closest pair of images of different classes, exactly.

    Blocks of :math:`\|a\|^2 + \|b\|^2 - 2 a b^T` in float32 find candidates; whatever lies within the rounding of that
    formula of the smallest is measured again in float64, from the difference.

    Args:
        data: images of at least two classes.
        exclude_duplicates: leave pairs of equal images out (label noise would give an infinite constant).
        advance: is told how many blocks were compared since the last call (see `comparisons`).

    Raises:
        EvaluationError: no pair of different classes, or none but equal images.
    """
    # Without the mean, norms are smaller, and so is the rounding of the formula.
    flat = data.x.flatten(1)
    flat = flat - flat.mean(dim=0)
    search = _Search(data, flat, exclude_duplicates)
    groups = [(data.y == label).nonzero().flatten() for label in data.y.unique()]
    for k, one in enumerate(groups):
        for other in groups[k + 1 :]:
            for a in one.split(BLOCK):
                for b in other.split(BLOCK):
                    search.compare(a, b)
                    advance(1)
    if search.pair is None:
        raise EvaluationError(
            f"{data.name} ({data.split}) has no two images of different classes"
            + (f" that differ ({search.duplicates} pairs are equal)" if search.duplicates else ""),
            "The constant speaks of distances between classes: at least two are needed",
        )
    i, j = search.pair
    return Separation(
        distance=search.distance,
        first=int(data.index[i]),
        second=int(data.index[j]),
        labels=(int(data.y[i]), int(data.y[j])),
        duplicates=search.duplicates,
    )


class _Search:
    """The smallest distance so far, and its pair of positions."""

    def __init__(self, data: Dataset, flat: Tensor, exclude_duplicates: bool) -> None:
        self.images = data.x.flatten(1)
        self.flat = flat
        self.square = flat.square().sum(dim=1)
        # Inner products of d float32 terms: (d + 2) u of |a| |b|, and |a| |b| is at most the largest square.
        unit = torch.finfo(torch.float32).eps
        self.slack = 4 * (flat.shape[1] + 4) * unit * float(self.square.max())
        self.look = max(1, _ENTRIES // flat.shape[1])
        self.exclude = exclude_duplicates
        self.distance = math.inf
        self.pair: tuple[int, int] | None = None
        self.duplicates = 0

    def compare(self, a: Tensor, b: Tensor) -> None:
        """Look at all pairs of positions of ``a`` and ``b``."""
        squares = torch.addmm(self.square[b].expand(len(a), -1), self.flat[a], self.flat[b].T, alpha=-2)
        squares += self.square[a][:, None]
        if self.exclude:
            self._duplicates(squares, a, b)
        least = float(squares.min())
        if math.isinf(least) or least > self.distance**2 + self.slack:
            return
        near = (squares <= min(least + 2 * self.slack, self.distance**2 + self.slack)).nonzero()
        for some in near.split(self.look):
            i, j = a[some[:, 0]], b[some[:, 1]]
            self._keep(i, j, (self.images[i].double() - self.images[j].double()).norm(dim=1))

    def _duplicates(self, squares: Tensor, a: Tensor, b: Tensor) -> None:
        for some in (squares <= self.slack).nonzero().split(self.look):
            i, j = a[some[:, 0]], b[some[:, 1]]
            equal = (self.images[i] == self.images[j]).all(dim=1)
            self.duplicates += int(equal.sum())
            squares[some[equal, 0], some[equal, 1]] = math.inf

    def _keep(self, i: Tensor, j: Tensor, exact: Tensor) -> None:
        if not len(exact):
            return
        at = int(exact.argmin())
        if float(exact[at]) < self.distance:
            self.distance = float(exact[at])
            self.pair = int(i[at]), int(j[at])
