"""A fingerprint of a network: it changes when the network does."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

from robcert.graph.export import IMAGES
from robcert.types import LoadedModel

_CHILDREN = ("_parameters", "_buffers", "_modules")
_DEEP = 8
"""So many objects inside one another are looked into."""


@torch.no_grad()
def fingerprint(model: LoadedModel) -> tuple[Any, ...]:
    """Return what changes when the network does, to the last bit of its answers.

    Its weights and buffers, the settings of its layers in whatever Python object they are kept, its hooks, and, since a
    forward may read what cannot be found from here (a variable of a module, a file), its answers to two fixed images.
    """
    module = model.module
    found: list[Any] = [model.input_shape, model.box]
    for path, layer in module.named_modules():
        kind = type(layer)
        found.append((path, id(kind), id(inspect.getattr_static(kind, "forward", None)), layer.training))
        for name, tensor in (*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)):
            found.append((name, *_tensor(tensor)))
        for name, value in vars(layer).items():
            if name not in _CHILDREN:
                found.append((name, *_said(value, _DEEP)))
    found.append(_answers(model))
    return tuple(found)


def _answers(model: LoadedModel) -> bytes:
    low, high = model.box
    x = low + (high - low) * torch.rand(IMAGES, *model.input_shape, generator=torch.Generator().manual_seed(23))
    state = next(model.module.parameters(), next(model.module.buffers(), None))
    answers = model.module(x if state is None else x.to(state.device))
    return answers.float().cpu().numpy().tobytes()


def _tensor(tensor: Tensor) -> tuple[Any, ...]:
    """Its place, its version, and two sums: writing through ``.data`` counts no version, so numbers are looked at."""
    if not tensor.is_floating_point() and not tensor.is_complex():
        tensor = tensor.double() if tensor.dtype != torch.bool else tensor.float()
    flat = tensor.detach().flatten()
    flat = flat.to(torch.complex128 if flat.is_complex() else torch.float64)
    places = torch.arange(1, len(flat) + 1, dtype=flat.dtype, device=flat.device)
    return tuple(tensor.shape), str(tensor.dtype), repr(flat.sum().item()), repr((flat * places).sum().item())


def _said(value: Any, deep: int) -> Iterator[Any]:
    """Yield what a setting says, down to its numbers; an object without any by its type and its place in memory."""
    if isinstance(value, Tensor):
        yield from _tensor(value)
    elif isinstance(value, bool | int | float | complex | str | bytes | torch.dtype | torch.device | None):
        yield repr(value)
    elif isinstance(value, nn.Module) or deep == 0:
        yield id(value)  # a layer is visited for itself
    elif isinstance(value, dict):
        for key, one in cast("dict[Any, Any]", value).items():
            yield repr(key) if isinstance(key, str | int) else id(key)
            yield from _said(one, deep - 1)
    elif isinstance(value, list | tuple | set | frozenset):
        yield len(cast("list[Any]", value))
        for one in cast("list[Any]", value):
            yield from _said(one, deep - 1)
    elif isinstance(value, functools.partial):
        for one in (value.func, value.args, value.keywords):
            yield from _said(one, deep - 1)
    elif inspect.isfunction(value):
        yield id(value.__code__)
        for cell in value.__closure__ or ():
            yield from _said(cell.cell_contents, deep - 1)
        yield from _said(value.__defaults__, deep - 1)
    else:
        yield (id(type(value)), id(value))
        own = getattr(value, "__dict__", None)
        if isinstance(own, dict) and not isinstance(value, type):
            yield from _said(own, deep - 1)
