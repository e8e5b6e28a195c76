"""Values one after the other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robcert.bounds.linear.coefficients import Rows
from robcert.bounds.linear.inputs import Region
from robcert.bounds.linear.step import Interval, Pulled, Step


@dataclass(frozen=True, eq=False)
class Joined(Step):
    """Values (and constants) one after the other along an axis, or along a new one.

    Attributes:
        axis: of one image, from 0.
        parts: for each part its source, or the constant that stands there.
        sizes: of each part along the axis.
        new: a new axis (stack).
    """

    axis: int
    parts: tuple[Tensor | None, ...]
    sizes: tuple[int, ...]
    new: bool

    through: ClassVar[bool] = True

    @property
    def roundings(self) -> int:
        """Constants."""
        return math.prod(self.shape) + 8

    def interval(self, given: list[Interval], region: Region) -> Interval:
        """Both ends, joined."""
        return Interval(self._join([x.lower for x in given]), self._join([x.upper for x in given]))

    def magnitude(self, given: list[Interval], relaxed: None) -> Tensor:
        """The largest of all."""
        constants = [float(part.abs().amax()) for part in self.parts if part is not None and part.numel()]
        return torch.stack([x.largest for x in given]).amax(0) + max(constants, default=0.0)

    def pull(self, rows: Rows, relaxed: None) -> Pulled:
        """The coefficients of each part."""
        pieces = rows.a.split(list(self.sizes), dim=2 + self.axis)
        constant: Tensor | float = 0.0
        found: list[Rows] = []
        for part, piece in zip(self.parts, pieces, strict=True):
            piece = piece.squeeze(2 + self.axis) if self.new else piece
            if part is None:
                found.append(Rows(piece))
            else:
                constant = constant + Rows(piece).dot(part)
        return Pulled(found, constant)

    def _join(self, given: list[Tensor]) -> Tensor:
        left, n = iter(given), len(given[0])
        parts = [next(left) if part is None else part.expand(n, *part.shape[1:]) for part in self.parts]
        return torch.stack(parts, 1 + self.axis) if self.new else torch.cat(parts, 1 + self.axis)
