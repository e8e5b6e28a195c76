"""Nonexpansive weights W' = W / sqrt(b(W)) as a parametrisation of ordinary linear and convolution layers.

`constrain` puts the parametrisation on every layer of a network, `fold` takes it away and keeps the weights
W', so that a network that is evaluated or stored consists of plain layers. Both keep the function of the
network (`constrain` up to rounding, if the weights fulfil b(W) = 1).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from robcert.nn.bounds import copies, gram_bound, gram_penalty
from robcert.nn.heads import Heads

Module = TypeVar("Module", bound=nn.Module)

# A weight of zeros stays one: W / sqrt(tiny) = 0. The square root of the smallest normal float32 number is
# normal.
_TINY = 2.0**-126


class Nonexpansive(nn.Module):
    """The parametrisation of one weight: W' = factor W / sqrt(b(W)), or factor W as long as it is not strict.

    Args:
        factor: 1 / sqrt(copies) for a convolution (section 2.1: the input is divided by that square root;
            here it is part of the weight), 1 for a linear layer.
        strict: divide by sqrt(b(W)); otherwise the caller adds `penalty` to the loss (appendix A.1).

    Source: L2-Nonexpansive Neural Networks, section 2.1, eq. 2, and appendix A.1, eq. 7.
    """

    def __init__(self, factor: float = 1.0, *, strict: bool = True) -> None:
        super().__init__()
        self.factor = factor
        self.strict = strict

    def forward(self, weight: Tensor) -> Tensor:
        """The weight that the layer applies, of the same shape."""
        if not self.strict:
            return self.factor * weight
        return (self.factor / gram_bound(weight).clamp_min(_TINY).sqrt()) * weight

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The unconstrained weight that stands for ``weight`` when the parametrisation is put on."""
        return weight / self.factor

    def penalty(self, weight: Tensor) -> Tensor:
        """L_W of eq. 7 of the unconstrained weight."""
        return gram_penalty(weight)


class NonexpansiveRows(Nonexpansive):
    """The same for a layer of single-output filters: every row w is a matrix of its own, w' = w / ||w||_2.

    For a matrix of one row, b(w) = ||w||_2^2 exactly and L_W = max(||w||_2^2 - 1, 0).

    Source: L2-Nonexpansive Neural Networks, section 2.4 (multi-L2NNN classifiers).
    """

    def forward(self, weight: Tensor) -> Tensor:
        """The weight that the layer applies, (classes, features)."""
        if not self.strict:
            return weight
        return weight / weight.square().sum(1, keepdim=True).clamp_min(_TINY).sqrt()

    def penalty(self, weight: Tensor) -> Tensor:
        """The sum over the rows of max(||w||_2^2 - 1, 0)."""
        return (weight.square().sum(1) - 1).clamp_min(0).sum()


def _parametrisation(layer: nn.Module, strict: bool) -> Nonexpansive | None:
    """The parametrisation that a layer needs, or None for a layer without weights."""
    if isinstance(layer, Heads):
        return NonexpansiveRows(strict=strict)
    if isinstance(layer, nn.Linear):
        return Nonexpansive(strict=strict)
    if isinstance(layer, nn.Conv2d):
        if layer.padding_mode != "zeros" or set(layer.dilation) != {1} or layer.groups != 1:
            raise ValueError(
                f"{layer} cannot be made nonexpansive: the copying factor holds for zero padding, dilation 1"
                " and one group"
            )
        kernel = (layer.kernel_size[0], layer.kernel_size[1])
        stride = (layer.stride[0], layer.stride[1])
        return Nonexpansive(1 / math.sqrt(copies(kernel, stride)), strict=strict)
    return None


def constrain(net: Module, *, strict: bool = True) -> Module:
    """Puts the parametrisation on every linear and convolution layer of ``net``, in place.

    With ``strict`` every such layer is nonexpansive in l2 from now on, whatever its unconstrained weight
    becomes; every row of a `Heads` layer has unit norm. Other layers with weights are not touched.

    Raises:
        ValueError: a convolution with another padding than zeros, dilation or groups.
    """
    for layer in list(net.modules()):
        if parametrize.is_parametrized(layer, "weight"):
            continue
        parametrisation = _parametrisation(layer, strict)
        if parametrisation is not None:
            parametrize.register_parametrization(layer, "weight", parametrisation)
    return net


def constraints(net: nn.Module) -> Iterator[tuple[Nonexpansive, Tensor]]:
    """The parametrisations of a constrained network, each with its unconstrained weight."""
    for layer in net.modules():
        if isinstance(layer, parametrize.ParametrizationList):
            first = layer[0]
            if isinstance(first, Nonexpansive):
                original = layer.original
                assert isinstance(original, Tensor)
                yield first, original


def set_strict(net: nn.Module, strict: bool) -> None:
    """Switches every layer between the penalty (False) and W' (True); appendix A.1."""
    for parametrisation, _ in constraints(net):
        parametrisation.strict = strict


def weight_penalty(net: nn.Module) -> Tensor:
    """The sum of L_W (eq. 7) over all constrained layers: ()."""
    terms = [parametrisation.penalty(weight) for parametrisation, weight in constraints(net)]
    return torch.stack(terms).sum() if terms else torch.zeros(())


def fold(net: Module) -> Module:
    """Takes the parametrisations away, in place: plain layers whose weights are the constrained ones."""
    for layer in list(net.modules()):
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
    return net
