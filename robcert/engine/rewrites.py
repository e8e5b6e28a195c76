"""Rewritings of a copy of a network that make a pass faster and change no answer.

They are for copies that search: their parameters take no gradient, and their pictures have channels last.
"""

from __future__ import annotations

import itertools
from collections import Counter
from typing import cast

import torch
from torch import Tensor, nn

from robcert.engine.passes.convolution import Convolve
from robcert.engine.passes.flatten import FlattenPixels
from robcert.engine.passes.norms import PoolNorms
from robcert.engine.passes.picture import ReadPicture
from robcert.engine.passes.pooling import PoolPairs
from robcert.engine.passes.stacks import AllStacks
from robcert.engine.passes.winograd import Winograd
from robcert.nn.heads import LabelStacks
from robcert.nn.pooling import NormPool2d


def pool_before_relu(network: nn.Module) -> None:
    """In place: a max-pooling that follows a ReLU goes before it, so that the ReLU sees fewer entries.

    max(relu(x)) = relu(max(x)), and where that is 0 no gradient passes either way.
    """
    for module in network.modules():
        if type(module) is not nn.Sequential:
            continue
        for (first, relu), (second, pool) in itertools.pairwise(list(module.named_children())):
            if type(relu) is nn.ReLU and type(pool) is nn.MaxPool2d and not pool.return_indices:
                setattr(module, first, pool)
                setattr(module, second, nn.ReLU())


def pass_faster(network: nn.Module, example: Tensor) -> None:
    """In place: the layers that have a faster form on a CPU (`robcert.engine.passes`).

    Args:
        network: the copy, in any floating type, with channels last.
        example: (n, *shape), float32 images, as the network takes them.
    """
    given = _given(network, example)
    _flatten_pixels(network, given)
    rectified = _in_front_of_relu(network)
    _pool_norms(network)
    for name, module in list(network.named_modules()):
        if not name or _watched(module):
            continue
        if PoolPairs.fits(module):
            network.set_submodule(name, PoolPairs(cast("nn.MaxPool2d", module), module in rectified))
        elif ReadPicture.fits(module):
            layer = cast("nn.Conv2d", module)
            network.set_submodule(name, ReadPicture(layer, layer.weight.dtype))
        elif module in given and Winograd.fits(module, given[module][1:]):
            network.set_submodule(name, Winograd(cast("nn.Conv2d", module), given[module][1:]))
        elif Convolve.fits(module):
            network.set_submodule(name, Convolve(cast("nn.Conv2d", module)))
        elif AllStacks.fits(module):
            network.set_submodule(name, AllStacks(cast("LabelStacks", module)))


def _in_front_of_relu(network: nn.Module) -> set[nn.Module]:
    """The modules behind each of whose places in the network there is a ReLU."""
    places = Counter(module for _, module in network.named_modules(remove_duplicate=False))
    followed = Counter(
        first
        for _, module in network.named_modules(remove_duplicate=False)
        if type(module) is nn.Sequential
        for first, second in itertools.pairwise(module)
        if type(second) is nn.ReLU
    )
    return {module for module, count in followed.items() if count == places[module]}


def _watched(module: nn.Module) -> bool:
    """Whether somebody looks at what a layer, or a layer in it, is given or gives."""
    return any(vars(one)["_forward_hooks"] or vars(one)["_forward_pre_hooks"] for one in module.modules())


def _pool_norms(network: nn.Module) -> None:
    """In place: a two-sided ReLU and the norm-pooling behind it."""
    for module in list(network.modules()):
        if type(module) is not nn.Sequential:
            continue
        for (first, relu), (second, pool) in itertools.pairwise(list(module.named_children())):
            if PoolNorms.fits(relu, pool) and not _watched(relu) and not _watched(pool):
                setattr(module, first, PoolNorms(cast("NormPool2d", pool)))
                setattr(module, second, nn.Identity())


def _given(network: nn.Module, example: Tensor) -> dict[nn.Module, tuple[int, int, int]]:
    """Channels, height and width of what flattenings and convolutions are given, where it is always the same."""
    found: dict[nn.Module, set[torch.Size]] = {}

    def note(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        found.setdefault(module, set()).add(given[0].shape[1:])

    asked = [module for module in network.modules() if type(module) in (nn.Flatten, nn.Conv2d)]
    hooks = [module.register_forward_pre_hook(note) for module in asked]
    try:
        with torch.no_grad():
            network(example[:1])
    finally:
        for hook in hooks:
            hook.remove()
    pictures = {module: next(iter(shapes)) for module, shapes in found.items() if len(shapes) == 1}
    return {module: (shape[0], shape[1], shape[2]) for module, shape in pictures.items() if len(shape) == 3}


def _flatten_pixels(network: nn.Module, given: dict[nn.Module, tuple[int, int, int]]) -> None:
    """In place: a flattening and the linear layer behind it, for pictures."""
    for module in network.modules():
        if type(module) is not nn.Sequential:
            continue
        for (first, flatten), (second, linear) in itertools.pairwise(list(module.named_children())):
            shape = given.get(flatten)
            if shape is None or type(flatten) is not nn.Flatten or type(linear) is not nn.Linear:
                continue
            if (flatten.start_dim, flatten.end_dim) == (1, -1):
                setattr(module, first, FlattenPixels())
                setattr(module, second, FlattenPixels.follow(linear, shape))
