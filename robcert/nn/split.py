"""Splitting and reconvergence: a residual block whose two ways together are nonexpansive."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from robcert.nn.ranges import UnitInterval

# Rounded down by a few units in the last place of float32, so that t^2 + complement(t)^2 <= 1 after rounding too.
_ROOM = 1 - 2.0**-21
_TINY = 2.0**-126


def complement(t: Tensor) -> Tensor:
    """sqrt(1 - t^2), of the same shape; its gradient is finite also at t = 1, where the root has none."""
    return ((1 - t) * (1 + t) * _ROOM).clamp_min(_TINY).sqrt()


class _Ratio(nn.Module):
    """Holds t in [0, 1], one a layer (shape ()), a channel ((c, 1, 1)) or an entry ((c, h, w))."""

    def __init__(self, shape: tuple[int, ...], t: float) -> None:
        super().__init__()
        if not 0 <= t <= 1:
            raise ValueError(f"t is {t}, but a number from 0 to 1 was expected")
        self.t = nn.Parameter(torch.full(shape, float(t)))

    def ranges(self) -> dict[str, nn.Module]:
        """While it is trained, t stays in [0, 1] (`robcert.nn.nonexpansive.constrain`)."""
        return {"t": UnitInterval()}


class Split(_Ratio):
    """X -> t x and sqrt(1 - t^2) x: the two together are as far apart as x is.

    Args:
        shape: of t: (), (c, 1, 1) or (c, h, w).
        t: where t begins, in [0, 1].

    Shapes: (n, c, ...) -> twice (n, c, ...).

    Source: L2-Nonexpansive Neural Networks, appendix A.3, eq. 9.
    """

    def __init__(self, shape: tuple[int, ...] = (), t: float = 0.5**0.5) -> None:
        super().__init__(shape, t)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The part for the skip connection, and the part for the branch."""
        t = self.t
        return t * x, complement(t) * x


class Reconverge(_Ratio):
    """x_1, f -> t x_1 + sqrt(1 - t^2) f, nonexpansive in the pair (x_1, f).

    Where f has more channels than x_1, x_1 is added to the first of them, and the others pass unchanged: only
    what is added has to shrink.

    Args:
        shape: of t: (), (c, 1, 1) or (c, h, w), with the c channels of x_1.
        t: where t begins, in [0, 1].

    Shapes: (n, c, ...), (n, c', ...) with c' >= c -> (n, c', ...).

    Source: L2-Nonexpansive Neural Networks, appendix A.3, eq. 10.
    """

    def __init__(self, shape: tuple[int, ...] = (), t: float = 0.5**0.5) -> None:
        super().__init__(shape, t)

    def forward(self, skip: Tensor, branch: Tensor) -> Tensor:
        """The sum."""
        t = self.t
        return reconverge(skip, branch, t, complement(t))


@fx.wrap
def reconverge(skip: Tensor, branch: Tensor, ours: Tensor, theirs: Tensor) -> Tensor:
    """``ours`` * skip + ``theirs`` * branch in the channels that the skip connection has; the others pass.

    Raises:
        ValueError: the branch has fewer channels than what is added to it.
    """
    channels, other = skip.shape[1], branch.shape[1] - skip.shape[1]
    if other < 0:
        raise ValueError(f"{channels} channels cannot be added to {branch.shape[1]}")
    if other == 0:
        return ours * skip + theirs * branch
    # One factor a channel of the branch, 1 where nothing is added: a form that the bound of a graph understands.
    shape = torch.broadcast_shapes(theirs.shape, (1,) * (branch.ndim - 1))
    theirs = theirs.expand(channels, *shape[1:])
    factors = torch.cat([theirs, theirs.new_ones(other, *shape[1:])])
    padding = (0, 0) * (branch.ndim - 2) + (0, other)
    return functional.pad(ours * skip, padding) + factors * branch


class Residual(_Ratio):
    """x -> t (t x) + sqrt(1 - t^2) f(sqrt(1 - t^2) x): a residual block, nonexpansive if f is.

    Args:
        branch: f; its first channels are those that x is added to.
        shape: of t: (), (c, 1, 1) or (c, h, w).
        t: where t begins, in [0, 1]: 0 is the branch alone, 1 (with as many channels) the input alone.

    Shapes: (n, c, ...) -> that of f(x).

    Source: L2-Nonexpansive Neural Networks, appendix A.3, eq. 9 and 10 with a common t.
    """

    def __init__(self, branch: nn.Module, shape: tuple[int, ...] = (), t: float = 0.5**0.5) -> None:
        super().__init__(shape, t)
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        """Split, branch and reconvergence."""
        t = self.t
        rest = complement(t)
        return reconverge(t * x, self.branch(rest * x), t, rest)


class ConvexResidual(_Ratio):
    """x -> alpha x + (1 - alpha) f(x): nonexpansive in every l_p norm in which f is, but it loses more distance.

    Nothing is scaled where x splits, so all channels of f shrink by 1 - alpha, also those that nothing is
    added to.

    Args:
        branch: f; its first channels are those that x is added to.
        alpha: where alpha begins, in [0, 1].

    Shapes: (n, c, ...) -> that of f(x).

    Source: L2-Nonexpansive Neural Networks, appendix A.3, eq. 11, after M. Cisse et al., Parseval Networks,
    ICML 2017.
    """

    def __init__(self, branch: nn.Module, alpha: float = 0.5) -> None:
        super().__init__((), alpha)
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        """Branch and convex combination."""
        # Every channel of the branch shrinks, and then x is added to the first.
        return reconverge(x, (1 - self.t) * self.branch(x), self.t, self.t.new_ones(()))
