"""The same images in another shape: with other channels, flattened, or as an image again; never resized."""

from __future__ import annotations

import math

import torch
from torch import Tensor

Shape = tuple[int, ...]
_LUMA = (0.299, 0.587, 0.114)


def refit(x: Tensor, shape: Shape) -> tuple[Tensor, str] | None:
    """Images of another shape, and a sentence about how they came to it; None where they cannot have it.

    Args:
        x: (n, *) with channels first.
        shape: of one input of a network.

    Returns:
        (n, *shape), and "" where nothing was to be done.
    """
    for images, said in _channels(x):
        if (found := _arranged(images, shape)) is not None:
            return found[0], " and ".join(filter(None, (said, found[1])))
    return None


def reachable(shape: Shape) -> list[Shape]:
    """The shapes that `refit` can give to images, the nearest first: with other channels, and flat."""
    channels = [(3 if shape[0] == 1 else 1, *shape[1:])] if len(shape) == 3 and shape[0] in (1, 3) else []
    return [shape, *channels, *((math.prod(one),) for one in (shape, *channels) if len(one) > 1)]


def _channels(x: Tensor) -> list[tuple[Tensor, str]]:
    """The images as they are, then with one channel in place of three or the other way round."""
    found = [(x, "")]
    if x.ndim == 4 and x.shape[1] == 1:
        found.append((x.expand(-1, 3, -1, -1), "grey images were repeated in three channels"))
    if x.ndim == 4 and x.shape[1] == 3:
        first, rest = x[:, :1], x[:, 1:]
        if bool((rest == first).all()):
            found.append((first, "three equal channels became one"))
        else:
            luma = (x * torch.tensor(_LUMA, dtype=x.dtype, device=x.device).view(3, 1, 1)).sum(1, keepdim=True)
            low, high = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
            grey = torch.minimum(torch.maximum(luma, low), high)  # rounding never leaves the box
            found.append((grey, "RGB images became grey (0.299 R + 0.587 G + 0.114 B)"))
    return found


def _arranged(x: Tensor, shape: Shape) -> tuple[Tensor, str] | None:
    """The same entries in another shape, if there is one way to read it."""
    now = tuple(x.shape[1:])
    if now == shape:
        return x.contiguous(), ""
    if math.prod(now) != math.prod(shape):
        return None
    several = len(now) == 3 and now[0] > 1
    if several and shape == (*now[1:], now[0]):
        return x.movedim(1, -1).contiguous(), "channels were moved last"
    here, there = _long(now), _long(shape)
    order = ", channels first" if several or (len(shape) == 3 and shape[0] > 1) else ""
    flattened = len(there) == 1
    unflattened = len(here) == 1 and (len(there) == 2 or (len(shape) == 3 and shape[0] in (1, 3)))
    if here != there and not flattened and not unflattened:
        return None
    said = "" if here == there else f" ({'flattened' if flattened else 'unflattened'} row by row{order})"
    return x.reshape(len(x), *shape), f"images of shape {shape_text(now)} are given as {shape_text(shape)}{said}"


def shape_text(shape: Shape) -> str:
    """A shape as messages write it: 3x32x32."""
    return "x".join(str(size) for size in shape)


def _long(shape: Shape) -> Shape:
    """The axes that have more than one entry."""
    return tuple(size for size in shape if size != 1)
