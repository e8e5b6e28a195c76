"""The change of variables of Carlini & Wagner: a point of the box is tanh(w), and Adam moves w at a rate in x."""

from __future__ import annotations

import torch
from torch import Tensor

from robcert.attacks.common.walks import start_of
from robcert.attacks.protocol import Problem
from robcert.math.norms import per_image

_BETA1, _BETA2, _ADAM_EPS = 0.9, 0.999, 1e-12
_GROWING, _LARGEST = 15, 1e30
INSIDE = 1 - 1e-3
"""How far inside the box a search begins: closer, and a black pixel needs hundreds of steps to leave black."""


def to_box(w: Tensor, box: tuple[float, float]) -> Tensor:
    """Return the point (n, *shape) of the box that w stands for."""
    low, high = box
    return low + (high - low) / 2 * (torch.tanh(w) + 1)


def from_box(x: Tensor, box: tuple[float, float], inside: float = INSIDE) -> Tensor:
    """Return w (n, *shape) of a point of the box, moved inwards by ``inside``: else an edge is at infinity."""
    low, high = box
    return torch.atanh(((x - low) * (2 / (high - low)) - 1).clamp(-1, 1) * inside)


def start(problem: Problem) -> Tensor:
    """Return the w (n, *shape) of the clean image; in a restart, of a random point of the ball."""
    return from_box(problem.x + start_of(problem), problem.threat.box)


def adam(
    w: Tensor,
    mean: Tensor,
    square: Tensor,
    gradient: Tensor,
    slope: Tensor,
    rate: Tensor,
    fastest: float,
    iteration: Tensor,
) -> None:
    """Take one step of Adam, in place in w, mean and square.

    Args:
        w, mean, square: (n, *shape), the point and Adam's moments.
        gradient: (n, *shape), of the loss to w.
        slope: (n, *shape), dx/dw.
        rate: (n,), in x. Over the slope it is a rate in w: an entry at the edge of the box moves as far in x as a
            grey one.
        fastest: the most that an entry of w moves.
        iteration: (n,), counted from 1.
    """
    mean.lerp_(gradient, 1 - _BETA1)
    square.mul_(_BETA2).addcmul_(gradient, gradient, value=1 - _BETA2)
    root = square.sqrt().add_(_ADAM_EPS)
    length = torch.div(per_image(rate, slope), slope).clamp_max_(fastest)
    size = torch.sqrt(1 - _BETA2**iteration) / (1 - _BETA1**iteration)
    w.addcdiv_(length.mul_(mean).mul_(per_image(-size, length)), root)


def tens(weight: Tensor, search_step: Tensor) -> Tensor:
    """Return (n,): ten times the weight, for the first 15 search steps (n,) int64 and up to 1e30; then the weight.

    The first weight sets the scale of the gradient. Far beyond it Adam's squares overflow in float32, and then the
    point itself is no number.
    """
    return torch.where(search_step < _GROWING, torch.minimum(10 * weight, weight.clamp_min(_LARGEST)), weight)


def next_weight(weight: Tensor, lower: Tensor, upper: Tensor, search_step: Tensor) -> Tensor:
    """Return the next weight (n,) of a searched term: up by `tens` until it is bracketed, then into its bracket.

    A lower end of 0 says nothing about scale: down by tens then, and by geometric means inside a bracket.
    """
    bracketed = upper.isfinite()
    inside = torch.where(lower > 0, torch.sqrt(lower * torch.where(bracketed, upper, lower)), 0.1 * upper)
    return torch.where(bracketed, inside, tens(weight, search_step))


def step_on(search_step: Tensor, ended: Tensor, stuck: Tensor, most: int) -> Tensor:
    """Return the search steps (n,) int64 that are spent once those of ``ended`` (n,) bool are.

    Where the weight can only stay (``stuck``) each of the others would be like the one that failed, so all but the
    last of ``most`` are left out: it is searched in the precision of the network itself.
    """
    following = search_step + ended
    return torch.where(stuck, following.clamp_min(most - 1), following)
