"""The network that an ONNX file describes, as a module of torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from robcert.network.onnx_import.values import Extent, mapped


@dataclass(frozen=True)
class Slot:
    """A tensor that was computed earlier."""

    index: int


@dataclass(frozen=True)
class Weight:
    """A parameter or buffer of the network."""

    name: str


@dataclass(frozen=True)
class Step:
    """One call.

    Attributes:
        layer: the name of a layer, or a function of torch.
        args: `Slot`, `Weight` and `Extent` stand for tensors and sizes.
        results: where the results go.
        several: whether the layer returns several tensors.
    """

    layer: str | Callable[..., Any]
    args: tuple[Any, ...]
    results: tuple[int, ...]
    several: bool
    last: tuple[int, ...] = ()


class OnnxNetwork(nn.Module):
    """Layers of torch, called in the order of the graph.

    Layers are looked up by name, so that a layer that was folded into the one before it is found changed. Tensors are
    forgotten after their last use.

    Attributes:
        layers: the layers with weights, by name.
        input_shape: of one image, channels first.
        declared: the shape of one image in the file.
        fixed: the number of images that the file was written for, or None for any number.
        slots: name in the file -> position, for tensors that are computed.
        notices: what was changed on the way, for the user.
    """

    def __init__(
        self,
        layers: nn.Module,
        weights: nn.Module,
        steps: tuple[Step, ...],
        logits: int,
        input_shape: tuple[int, ...],
        *,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.layers = layers
        self.weights = weights
        self.steps = steps
        self.logits = logits
        self.input_shape = input_shape
        self.channels_last = channels_last
        self.fixed: int | None = None
        self.slots: dict[str, int] = {}
        self.notices: tuple[str, ...] = ()
        self.training = False

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits: (n, *input_shape) -> (n, classes)."""
        return self._run(x)[self.logits]

    def everything(self, x: Tensor) -> dict[int, Tensor]:
        """Return all tensors, by position."""
        with torch.no_grad():
            return self._run(x, forget=False)

    def _run(self, x: Tensor, *, forget: bool = True) -> dict[int, Any]:
        images = x.shape[0]
        held: dict[int, Any] = {0: x.permute(0, *range(2, len(self.input_shape) + 1), 1) if self.channels_last else x}
        for step in self.steps:
            layer = getattr(self.layers, step.layer) if isinstance(step.layer, str) else step.layer
            found = layer(*mapped(partial(self._argument, held, images), step.args))
            held.update(zip(step.results, found if step.several else (found,), strict=True))
            for index in step.last if forget else ():
                held.pop(index, None)
        return held

    def _argument(self, held: dict[int, Any], images: Any, arg: Any) -> Any:
        if isinstance(arg, Slot):
            return held[arg.index]
        if isinstance(arg, Weight):
            return getattr(self.weights, arg.name)
        return arg.at(images) if isinstance(arg, Extent) else arg


def parameter(tensor: Tensor) -> nn.Parameter:
    """Return a tensor of the file as a frozen parameter, float32 if it is a float."""
    return nn.Parameter(tensor.float() if tensor.is_floating_point() else tensor, requires_grad=False)


def filled(layer: Any, **tensors: Tensor | None) -> nn.Module:
    """Return a layer that was made without weights with these as its parameters; None for one that it has not."""
    for name, tensor in tensors.items():
        if tensor is not None:
            setattr(layer, name, parameter(tensor.float().contiguous()))
    return layer
