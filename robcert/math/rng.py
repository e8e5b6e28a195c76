"""Random numbers that depend on the seed, the image and the restart, and on nothing else.

An image must get the same random start alone, in a batch of 7 and after a resume, on a CPU and on a GPU. So the
stream is counter based: the key is (seed, image index, restart, tag), the counter is the position of the entry,
and a 64-bit mixer turns both into bits. Nothing is stored and nothing synchronises with the host.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit number


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical (not arithmetic) right shift of int64."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    """The finaliser of SplitMix64 (Steele, Lea & Flood 2014), on wrapping int64."""
    x = (x ^ _shift(x, 30)) * -4658895280553007687  # 0xBF58476D1CE4E5B9
    x = (x ^ _shift(x, 27)) * -7723592293110705685  # 0x94D049BB133111EB
    return x ^ _shift(x, 31)


@dataclass(frozen=True)
class SampleRng:
    """One random stream an image.

    Attributes:
        seed: the seed of the run.
        index: (n,) int64, the index of each image in its data set.
        restart: (n,) int64, the number of the restart.
    """

    seed: int
    index: Tensor
    restart: Tensor

    def at(self, draw: Tensor) -> SampleRng:
        """The streams of the draws ``draw`` (n,) int64, e.g. of the iteration that each image is at."""
        return SampleRng(self.seed, self.index, _mix(_mix(self.restart + 1) + draw * _GOLDEN))

    def bits(self, count: int, tag: int) -> Tensor:
        """(n, count) int64 with 64 random bits each; ``tag`` separates the uses within one attack."""
        key = torch.full_like(self.index, (self.seed * 0x632BE5AB + tag) & 0x7FFFFFFFFFFFFFFF)
        for part in (self.index, self.restart):
            key = _mix(key + part * _GOLDEN + 1)
        counter = torch.arange(1, count + 1, device=self.index.device, dtype=torch.int64)
        return _mix(key.view(-1, 1) + counter * _GOLDEN)

    def uniform(self, shape: tuple[int, ...], tag: int = 0) -> Tensor:
        """(n, *shape) float32, uniform in (0, 1)."""
        bits = self.bits(math.prod(shape), tag)
        return ((_shift(bits, 41).double() + 0.5) * 2.0**-23).float().view(-1, *shape)

    def normal(self, shape: tuple[int, ...], tag: int = 0) -> Tensor:
        """(n, *shape) float32, standard normal (Box & Muller 1958)."""
        radius = torch.sqrt(-2 * torch.log(self.uniform(shape, 2 * tag + 1000)))
        return radius * torch.cos(2 * math.pi * self.uniform(shape, 2 * tag + 1001))
