"""Nonexpansive weights W' = W / sqrt(b(W)) as a parametrisation of ordinary linear and convolution layers.

`constrain` puts the parametrisation on every layer of a network, `fold` takes it away and keeps the weights
W', so that a network that is evaluated or stored consists of plain layers. Both keep the function of the
network (`constrain` up to rounding, if the weights fulfil b(W) = 1).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from robcert.nn.bounds import absolute_row_sums, copies, counted_copies, gram_bound, gram_penalty
from robcert.nn.convolution import UndividedConv2d
from robcert.nn.heads import Heads
from robcert.nn.ranges import Ranged

Module = TypeVar("Module", bound=nn.Module)
Divide = Literal["whole", "each"]

# A weight of zeros stays one: W / sqrt(tiny) = 0. The square root of the smallest normal float32 number is
# normal.
_TINY = 2.0**-126


class Nonexpansive(nn.Module):
    """The parametrisation of one weight: W' = factor W / sqrt(b(W)), or factor W as long as it is not strict.

    Args:
        factor: 1 / sqrt(copies) for a convolution (section 2.1: the input is divided by that square root;
            here it is part of the weight), 1 for a linear layer.
        strict: divide by sqrt(b(W)); otherwise the caller adds `penalty` to the loss (appendix A.1).
        groups: of a convolution: W is block diagonal, and every block is divided by its own sqrt(b).

    Source: L2-Nonexpansive Neural Networks, section 2.1, eq. 2, and appendix A.1, eq. 7.
    """

    def __init__(self, factor: float = 1.0, *, strict: bool = True, groups: int = 1) -> None:
        super().__init__()
        self.factor = factor
        self.strict = strict
        self.groups = groups

    def forward(self, weight: Tensor) -> Tensor:
        """The weight that the layer applies, of the same shape."""
        if not self.strict:
            return self.factor * weight
        if self.groups == 1:
            return self.divided(weight)
        return torch.cat([self.divided(block) for block in weight.chunk(self.groups)])

    def divided(self, weight: Tensor) -> Tensor:
        """Factor W / sqrt(b(W)) for the weight of one group."""
        return (self.factor / gram_bound(weight).clamp_min(_TINY).sqrt()) * weight

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The unconstrained weight that stands for ``weight`` when the parametrisation is put on."""
        return weight / self.factor

    def penalty(self, weight: Tensor) -> Tensor:
        """L_W of eq. 7 of the unconstrained weight."""
        if self.groups == 1:
            return gram_penalty(weight)
        return torch.stack([gram_penalty(block) for block in weight.chunk(self.groups)]).sum()


class NonexpansiveEach(Nonexpansive):
    """The same with a divisor for each row instead of one for the matrix: W' = D W, d_i = 1 / sqrt(s_i).

    s_i = sum_j |(W W^T)_ij| is the sum of row i, of which b(W) takes the largest, so no row is shrunk more
    than by eq. 2 with r(W W^T), and rows that overlap with few others keep their length. Nonexpansive because
    W'^T W' = W^T D^2 W and D^2 W W^T have the same nonzero eigenvalues, and r(D^2 W W^T) = 1. If W has more
    rows than columns, the columns are divided in the same way.

    b(W') may be above 1: the bound that holds is on the spectral norm.

    Source: B. Prach and C. H. Lampert, Almost-Orthogonal Layers for Efficient General-Purpose Lipschitz
    Networks, ECCV 2022, theorem 1; paper A, eq. 1 and 2.
    """

    def divided(self, weight: Tensor) -> Tensor:
        """Factor D W for the weight of one group."""
        matrix = weight.flatten(1)
        wide = matrix.shape[0] <= matrix.shape[1]
        gram = matrix @ matrix.T if wide else matrix.T @ matrix
        divisor = self.factor * absolute_row_sums(gram).to(weight.dtype).clamp_min(_TINY).rsqrt()
        return (matrix * (divisor[:, None] if wide else divisor)).view_as(weight)


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


def _parametrisation(
    layer: nn.Module, strict: bool, divide: Divide, sizes: Mapping[nn.Conv2d, tuple[int, ...]]
) -> Nonexpansive | None:
    """The parametrisation that a layer needs, or None for a layer without weights."""
    kind = NonexpansiveEach if divide == "each" else Nonexpansive
    if isinstance(layer, Heads):
        return NonexpansiveRows(strict=strict)
    if isinstance(layer, nn.Linear):
        return kind(strict=strict)
    if isinstance(layer, nn.Conv2d):
        factor = 1.0 if isinstance(layer, UndividedConv2d) else 1 / math.sqrt(_copies(layer, sizes.get(layer)))
        return kind(factor, strict=strict, groups=layer.groups)
    return None


def _copies(layer: nn.Conv2d, size: tuple[int, ...] | None) -> int:
    """Return how often the convolution reads one entry at most; ``size`` is that of its input, where it is known."""
    if layer.padding_mode == "zeros":
        return copies(layer.kernel_size, layer.stride, layer.dilation)
    if size is None:
        raise ValueError(
            f"{layer} reads entries of the border more than once: how often depends on the size of the image."
            " Give constrain the input_shape of the network."
        )
    # torch counts the axes from the last one, two sides each.
    sides = layer._reversed_padding_repeated_twice  # pyright: ignore[reportPrivateUsage]
    padding = [(sides[2 * axis], sides[2 * axis + 1]) for axis in (1, 0)]
    return counted_copies(size, layer.kernel_size, layer.stride, padding, layer.dilation, layer.padding_mode)


def input_sizes(
    net: nn.Module, layers: Sequence[nn.Conv2d], input_shape: Sequence[int]
) -> dict[nn.Conv2d, tuple[int, ...]]:
    """Return the size (height, width) of the image that each of these convolutions of ``net`` reads.

    The network is left in the mode that it was in.

    Raises:
        ValueError: a convolution reads images of two sizes.
    """
    sizes: dict[nn.Conv2d, tuple[int, ...]] = {}

    def see(layer: nn.Conv2d, given: tuple[Tensor, ...], _: object) -> None:
        size = tuple(given[0].shape[2:])
        if sizes.setdefault(layer, size) != size:
            raise ValueError(f"{layer} reads images of the sizes {sizes[layer]} and {size}, but one was expected")

    if layers:
        hooks = [layer.register_forward_hook(see) for layer in layers]
        training = net.training
        first = next(net.parameters())
        with torch.no_grad():
            net.eval()(torch.zeros(1, *input_shape, dtype=first.dtype, device=first.device))
        net.train(training)
        for hook in hooks:
            hook.remove()
    return sizes


def constrain(
    net: Module, *, strict: bool = True, divide: Divide = "whole", input_shape: Sequence[int] | None = None
) -> Module:
    """Puts the parametrisation on every linear and convolution layer of ``net``, in place.

    With ``strict`` every such layer is nonexpansive in l2 from now on, whatever its unconstrained weight
    becomes; every row of a `Heads` layer has unit norm. A parameter that must stay in a range
    (`robcert.nn.ranges`) is kept in it. Other layers with weights are not touched.

    Args:
        net: the network.
        strict: W' from now on; otherwise the caller adds `weight_penalty` to the loss.
        divide: "whole" matrices by sqrt(b(W)) (`Nonexpansive`), or "each" row (`NonexpansiveEach`).
        input_shape: of one image; needed only where a convolution pads with something else than zeros.

    Raises:
        ValueError: a convolution with another padding than zeros, and no ``input_shape``.
    """
    unsure = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d) and layer.padding_mode != "zeros"]
    sizes = {} if input_shape is None else input_sizes(net, unsure, input_shape)
    for layer in list(net.modules()):
        if isinstance(layer, Ranged):
            for name, kept in layer.ranges().items():
                if not parametrize.is_parametrized(layer, name):
                    parametrize.register_parametrization(layer, name, kept)
        if parametrize.is_parametrized(layer, "weight"):
            continue
        parametrisation = _parametrisation(layer, strict, divide, sizes)
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


def trained_weight(layer: nn.Conv2d | nn.Linear) -> Tensor:
    """Return the weight that an optimiser moves: below a parametrisation, where the layer has one."""
    parametrised = parametrize.is_parametrized(layer, "weight")
    return layer.get_parameter("parametrizations.weight.original" if parametrised else "weight")


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
        if parametrize.is_parametrized(layer):
            own = layer.parametrizations
            assert isinstance(own, nn.ModuleDict)
            for name in list(own):
                parametrize.remove_parametrizations(layer, name, leave_parametrized=True)
    return net
