r"""Interval arithmetic that a training differentiates: float32, through the functions that a forward calls.

An `Interval` goes through a network in place of the images, and each function of torch that meets it is answered by a
rule, found by the name of the function. Rounding is not accounted for: these intervals are what a loss minimises, and
the certificate `ibp` proves what came of it.

Source: S. Gowal et al., On the Effectiveness of Interval Bound Propagation for Training Verifiably Robust Models, 2018,
    section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from robcert.errors import EvaluationError

_MONOTONE = (
    "adaptive_avg_pool2d",
    "add",
    "avg_pool2d",
    "cat",
    "flatten",
    "leaky_relu",
    "max_pool2d",
    "relu",
    "reshape",
    "sigmoid",
    "tanh",
    "unflatten",
    "view",
)
"""Functions that fall in no entry of an interval: their bounds are those of the bounds."""


@dataclass(frozen=True)
class Interval:
    """The smallest and the largest value of every entry.

    Attributes:
        lower: (n, *shape).
        upper: (n, *shape), not below.
        read: what the fully connected layer read that computed this interval; None: something else computed it.
        weight: of that layer, (outputs, inputs).
        bias: of that layer, (outputs,) or None.
    """

    lower: Tensor
    upper: Tensor
    read: Interval | None = None
    weight: Tensor | None = None
    bias: Tensor | None = None

    @property
    def centre(self) -> Tensor:
        """The middle of every entry, (n, *shape)."""
        return (self.lower + self.upper) / 2

    @property
    def radius(self) -> Tensor:
        """Half the width of every entry, (n, *shape)."""
        return (self.upper - self.lower) / 2

    @property
    def shape(self) -> torch.Size:
        """That of either bound."""
        return self.lower.shape

    def dim(self) -> int:
        """Return the number of dimensions, the images' among them."""
        return self.lower.dim()

    @property
    def device(self) -> torch.device:
        """Where the bounds are."""
        return self.lower.device

    def float(self) -> Interval:
        """Return the same in float32."""
        read = None if self.read is None else self.read.float()
        return replace(self, lower=self.lower.float(), upper=self.upper.float(), read=read)

    def margins(self, y: Tensor) -> Tensor:
        r"""Return lower bounds of :math:`z_y - z_j`, where this is the interval of logits z.

        Where a fully connected layer computed them, the difference of two of its rows is bounded, not two logits (the
        last layer is elided; Gowal et al. 2018, section 3).

        Args:
            y: (n,) int64.

        Returns:
            (n, classes), 0 at j = y.
        """
        index = y.view(-1, 1)
        if self.read is None or self.weight is None:
            found = self.lower.gather(1, index) - self.upper
        else:
            logits = functional.linear(self.read.centre, self.weight, self.bias)
            differences = (self.weight.unsqueeze(1) - self.weight).abs()  # (label, class, inputs)
            spread = torch.einsum("ni,nji->nj", self.read.radius, differences[y])
            found = logits.gather(1, index) - logits - spread
        return found.scatter(1, index, 0.0)

    def __add__(self, other: Any) -> Any:
        """Return the sum with another interval or a tensor."""
        return torch.add(cast("Any", self), other)

    def __getattr__(self, name: str) -> Any:
        """Return a method of a tensor, which is answered like the function of that name."""
        if name.startswith("__") or not callable(getattr(Tensor, name, None)):
            raise AttributeError(name)
        return partial(_answer, getattr(Tensor, name), self)

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Interval:
        """Answer a function of torch."""
        del types
        return _answer(func, *args, **(kwargs or {}))


def _answer(func: Callable[..., Any], *args: Any, **options: Any) -> Interval:
    """Return the interval of what a function returns.

    Raises:
        EvaluationError: there is no rule for the function; it is named.
    """
    name = func.__name__
    if name in _MONOTONE:
        return Interval(
            func(*_bounds(args, "lower"), **options),
            func(*_bounds(args, "upper"), **options),
        )
    if name in ("linear", "conv2d"):
        return _affine(func, *args, **options)
    raise EvaluationError(
        f"the objective ibp has no interval of the function {name}",
        f"Use an architecture of linear, conv2d and {', '.join(_MONOTONE)}.",
    )


def _bounds(args: Any, side: str) -> list[Any]:
    """Return arguments with one bound in place of each interval."""
    return [
        getattr(one, side) if isinstance(one, Interval) else _bounds(one, side) if isinstance(one, list) else one
        for one in args
    ]


def _affine(
    func: Callable[..., Tensor], x: Interval, weight: Tensor, bias: Tensor | None = None, *more: Any
) -> Interval:
    """Return W c + b -+ abs(W) r of an interval with centre c and radius r."""
    centre, radius = func(x.centre, weight, bias, *more), func(x.radius, weight.abs(), None, *more)
    read = (x, weight, bias) if func.__name__ == "linear" else (None, None, None)
    return Interval(centre - radius, centre + radius, *read)
