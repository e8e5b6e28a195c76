"""A copy of a network in bfloat16 for the search, where this processor or GPU is faster with it.

A processor with bfloat16 instructions runs a convolutional network forward and backward about three times as fast
as in float32, and a search does not need more: what it finds is confirmed by the float32 network before it counts
(`robcert.search.oracle`), and the last part of every search runs in float32 (`robcert.attacks.protocol.Refining`).
"""

from __future__ import annotations

import copy
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn

from robcert.accel.benchmark import GLANCE, benchmark
from robcert.accel.layers.first_convolution import ReadPicture
from robcert.accel.rewrites import pool_before_relu, use_faster_layers
from robcert.criteria.misclassified import margin
from robcert.errors import UsageError, did_you_mean

SearchPrecision = Literal["auto", "float32", "bfloat16"]
PRECISIONS: tuple[SearchPrecision, ...] = get_args(SearchPrecision)

_GAIN = 0.8  # bfloat16 must take at most this share of the float32 time
_CLEAR = 1.25  # by such a factor above or below, a tenth of the time is enough to see it
_AGREE = 0.9  # ... and give at least this share of the same answers
_SMALL = {"cpu": 4e-3, "cuda": 4e-4}
"""Seconds: a faster step is mostly overhead, and no choice to be made by a noisy clock. A graph has less of it."""


class Lowered(nn.Module):
    """A network whose layers compute in bfloat16: float32 images (n, *shape) in, float32 logits out.

    bfloat16 has eight bits, so it would round away a perturbation of 1/512 of an image, and the network would never see
    it. A first convolution therefore reads an image as the sum of two bfloat16 numbers; any other first layer stays in
    float32.

    Args:
        network: the float32 network.
        example: (n, *shape), images on which the two are compared.

    Attributes:
        margin_error: by how much a margin is off: nine of ten examples are within. A search that took every point at
            which this network errs for a success would lower its aim, and miss what it was sent for.

    Raises:
        RuntimeError, TypeError, ...: whatever the network does that bfloat16 cannot follow, when it is called.
    """

    def __init__(self, network: nn.Module, example: Tensor) -> None:
        super().__init__()
        first = _first_layers(network, example)
        self.network = copy.deepcopy(network)
        for name, module in self.network.named_modules():
            if name not in first:
                for parameter in module.parameters(recurse=False):
                    parameter.data = parameter.data.bfloat16()
                for key, buffer in module.named_buffers(recurse=False):
                    if buffer.is_floating_point():
                        setattr(module, key, buffer.bfloat16())
        self.cast = not first
        if first:
            layer = self.network.get_submodule(first[-1])
            if ReadPicture.fits(layer):
                self.network.set_submodule(first[-1], ReadPicture(cast("nn.Conv2d", layer), torch.bfloat16))
            else:
                layer.register_forward_hook(_narrow)
        self.requires_grad_(False).eval()
        pool_before_relu(self.network)
        if example.dim() == 4:
            self.network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
            if example.is_cpu:
                use_faster_layers(self.network, example.bfloat16() if self.cast else example)
        self.margin_error = self._error(network, example)

    @torch.no_grad()
    def _error(self, network: nn.Module, example: Tensor) -> float:
        exact = network(example)
        answer = exact.argmax(dim=1)
        error = (margin(self(example), answer) - margin(exact, answer)).abs()
        return float(torch.quantile(error.nan_to_num(0.0, 0.0), 0.9))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, classes) float32."""
        if x.dim() == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        return self.network(x.bfloat16() if self.cast else x).float()


def _narrow(module: nn.Module, given: object, result: Tensor) -> Tensor:
    return result.bfloat16()


def _first_layers(network: nn.Module, example: Tensor) -> list[str]:
    """Return the modules with numbers of their own, up to the first convolution or linear layer, as they are executed.

    Empty where that cannot be seen: no such module, or one that is executed more than once.
    """
    order: list[str] = []

    def note(name: str) -> object:
        return lambda module, given: order.append(name)

    hooks = [
        module.register_forward_pre_hook(note(name))  # type: ignore[arg-type]
        for name, module in network.named_modules()
        if name and (any(True for _ in module.parameters(False)) or any(True for _ in module.buffers(False)))
    ]
    try:
        with torch.no_grad():
            network(example)
    finally:
        for hook in hooks:
            hook.remove()
    for count, name in enumerate(order):
        if isinstance(network.get_submodule(name), nn.Conv2d | nn.Conv1d | nn.Linear):
            return order[: count + 1] if len(set(order)) == len(order) else []
    return []


def search_network(
    network: nn.Module, x: Tensor, precision: SearchPrecision, rival: nn.Module | None = None, seconds: float = 1.0
) -> Lowered | None:
    """Return the bfloat16 copy to search with, or None where a float32 network is the better choice.

    Args:
        network: the float32 network.
        x: (n, *shape), images, as many as an attack holds at once.
        precision: "auto" takes the copy if it is clearly faster here (and gives the same answers to nearly all of
            ``x``), "bfloat16" takes it in any case, "float32" never.
        rival: the float32 network in its fastest form (`robcert.accel.layout`), which the copy has to beat; None: as
            it is.
        seconds: about how long "auto" may try; where the difference is clear it takes a tenth of that.

    Raises:
        UsageError: the precision is unknown, or "bfloat16" was asked for and the network cannot do it.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"unknown search precision {precision!r}", did_you_mean(str(precision), PRECISIONS))
    if precision == "float32" or not len(x):
        return None
    rival = network if rival is None else rival
    if precision == "auto" and benchmark([rival], x, GLANCE)[0] < _SMALL.get(x.device.type, 0.0):
        return None
    try:
        lowered = Lowered(network, x)
        with torch.no_grad():
            answers = lowered(x)
    except Exception as error:  # any operator may refuse bfloat16, each with an exception of its own
        if precision == "auto":
            return None
        raise UsageError(
            f"this network cannot run in bfloat16: {error}", "Leave out --search-precision, or say float32"
        ) from None
    if precision == "bfloat16":
        return lowered
    with torch.no_grad():
        same = (answers.argmax(1) == network(x).argmax(1)).float().mean()
    if not bool(answers.isfinite().all()) or float(same) < _AGREE:
        return None
    forms = [rival, lowered]
    wide, narrow = benchmark(forms, x, seconds / 10)
    if _GAIN / _CLEAR < narrow / wide < _GAIN * _CLEAR:
        wide, narrow = benchmark(forms, x, seconds)
    return lowered if narrow <= _GAIN * wide else None
