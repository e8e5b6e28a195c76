"""The memory format in which a network is faster: channels last, for many convolutional networks on a CPU.

The numbers are the same but for the order in which sums are formed. The search takes the faster form; what it finds is
verified by the network as it was loaded.
"""

from __future__ import annotations

import copy
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from robcert.accel.benchmark import GLANCE, benchmark
from robcert.accel.rewrites import pool_before_relu, use_faster_layers

Layout = Literal["channels_first", "channels_last", "rewritten"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

_GAIN = 0.92  # of the time as it is: less is not worth another order of summation
_SMALL = 5e-4  # seconds: a faster step is mostly overhead
_LARGE = 4e-3  # seconds: from here on layers of our own pay, which are several calls each


class ChannelsLast(nn.Module):
    """A copy of a network for images (n, c, h, w) whose convolutions read them channel by channel of each pixel.

    Args:
        network: the float32 network.
        example: (n, c, h, w), images; with them, layers that have a faster form are rewritten
            (`robcert.accel.layers`).
    """

    def __init__(self, network: nn.Module, example: Tensor | None = None) -> None:
        super().__init__()
        self.rewritten = example is not None
        self.network = copy.deepcopy(network)
        pool_before_relu(self.network)
        self.network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.requires_grad_(False).eval()
        if example is not None:
            use_faster_layers(self.network, example)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, classes)."""
        return self.network(x.contiguous(memory_format=torch.channels_last))


def faster_layout(network: nn.Module, x: Tensor, layout: Layout | None = None, seconds: float = 0.06) -> nn.Module:
    """Return the network itself, or the fastest of its copies with channels last where that is clearly faster here.

    Args:
        network: the float32 network.
        x: (n, *shape), images, as many as an attack holds at once.
        layout: what an earlier part of the run found; None: try.
        seconds: about how long to try two forms.
    """
    if layout == "channels_first" or x.dim() != 4 or x.device.type != "cpu" or not len(x):
        return network
    if not any(isinstance(module, nn.Conv2d) for module in network.modules()):
        return network
    try:
        if layout is not None:
            return ChannelsLast(network, x if layout == "rewritten" else None)
        forms = [network, ChannelsLast(network)]
        if benchmark([network], x, GLANCE)[0] >= _LARGE:
            forms.append(ChannelsLast(network, x))
        as_it_is, *others = benchmark(forms, x, seconds / 2 * len(forms))
    except Exception:  # a network that calls .view, say, and any other that does not take it
        return network
    least = min(others)
    if as_it_is < _SMALL or least > _GAIN * as_it_is:
        return network
    return forms[1 + others.index(least)]


def layout_of(network: nn.Module) -> Layout:
    """Return the layout of a network."""
    if not isinstance(network, ChannelsLast):
        return "channels_first"
    return "rewritten" if network.rewritten else "channels_last"
