"""Networks as people write them: every factory is a form of network. `test_forms` gives them to every command.

This file is copied into the folder of the test, where ``--arch mine:NAME`` finds it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import weight_norm as old_weight_norm
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

SIDE, CLASSES = 4, 3
PIXELS = SIDE * SIDE

Step = Callable[..., Any]


def layers(activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(PIXELS, 12), activation(), nn.Linear(12, 12), activation(), nn.Linear(12, CLASSES)
    )


class Net(nn.Module):
    """An ordinary network, with a step of one's own before it and one behind it."""

    def __init__(self, before: Step = lambda x: x, after: Step = lambda z: z, **options: Any) -> None:
        super().__init__()
        self.net = layers(**options)
        self.before, self.after = before, after

    def forward(self, x: Tensor) -> Any:
        return self.after(self.net(self.before(x)))


# Activations in place, twice.
def relu() -> nn.Module:
    return layers(lambda: nn.ReLU(inplace=True))


def relu6() -> nn.Module:
    return layers(lambda: nn.ReLU6(inplace=True))


def leaky_relu() -> nn.Module:
    return layers(lambda: nn.LeakyReLU(0.1, inplace=True))


def elu() -> nn.Module:
    return layers(lambda: nn.ELU(inplace=True))


def selu() -> nn.Module:
    return layers(lambda: nn.SELU(inplace=True))


def celu() -> nn.Module:
    return layers(lambda: nn.CELU(inplace=True))


def silu() -> nn.Module:
    return layers(lambda: nn.SiLU(inplace=True))


def mish() -> nn.Module:
    return layers(lambda: nn.Mish(inplace=True))


def hardswish() -> nn.Module:
    return layers(lambda: nn.Hardswish(inplace=True))


def hardsigmoid() -> nn.Module:
    return layers(lambda: nn.Hardsigmoid(inplace=True))


def hardtanh() -> nn.Module:
    return layers(lambda: nn.Hardtanh(inplace=True))


def rrelu() -> nn.Module:
    return layers(lambda: nn.RReLU(inplace=True))


def threshold() -> nn.Module:
    return layers(lambda: nn.Threshold(0.05, 0.0, inplace=True))


def dropout() -> nn.Module:
    return layers(lambda: nn.Sequential(nn.ReLU(), nn.Dropout(0.5, inplace=True)))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(PIXELS, 12), nn.Linear(12, CLASSES)
        self.blocks = nn.ModuleList(nn.Linear(12, 12) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        out = self.first(x.flatten(1))
        for block in self.blocks:
            kept = out
            out = block(torch.relu_(out.clone()))
            out += kept
        return self.last(out)


residual = Residual


# The first operation writes to the input.
def normalises_in_place() -> nn.Module:
    return Net(lambda x: x.sub_(0.4).div_(0.3))


def clamps_in_place() -> nn.Module:
    return Net(lambda x: x.clamp_(0.1, 0.9))


def rectifies_the_input() -> nn.Module:
    return nn.Sequential(nn.ReLU(inplace=True), layers())


# Other types than float32.
def half_logits() -> nn.Module:
    return Net(after=lambda z: z.half())


def bfloat16_logits() -> nn.Module:
    return Net(after=lambda z: z.bfloat16())


def float64_logits() -> nn.Module:
    return Net(after=lambda z: z.double())


def half_network() -> nn.Module:
    return Net(lambda x: x.half()).half()


def bfloat16_network() -> nn.Module:
    return Net(lambda x: x.bfloat16()).bfloat16()


def float64_network() -> nn.Module:
    return Net(lambda x: x.double()).double()


class Autocast(Net):
    def forward(self, x: Tensor) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return self.net(x)


autocast = Autocast


# No gradient.
class NoGrad(Net):
    @torch.no_grad()
    def forward(self, x: Tensor) -> Any:
        return self.net(x)


class Numpy(Net):
    def forward(self, x: Tensor) -> Any:
        seen = x.flatten(1).numpy()
        return self.net(torch.from_numpy(np.sqrt(np.abs(seen))))


no_grad = NoGrad
with_numpy = Numpy


def detached() -> nn.Module:
    return Net(lambda x: x.detach())


def one_hot() -> nn.Module:
    return Net(after=lambda z: nn.functional.one_hot(z.argmax(1), CLASSES).float())


def signs() -> nn.Module:
    return Net(after=lambda z: torch.sign(z) + torch.tensor([0.1, 0.2, 0.3]))


def rounded_input() -> nn.Module:
    return Net(lambda x: torch.round(7 * x) / 7)


# Python in the forward.
class Asserts(Net):
    def forward(self, x: Tensor) -> Any:
        assert x.max() <= 1, "images lie in [0, 1]"
        return self.net(x)


class Rescales(Net):
    def forward(self, x: Tensor) -> Any:
        if x.max() > 1.5:
            x = x / 255
        return self.net(x)


class Items(Net):
    def forward(self, x: Tensor) -> Any:
        return self.net(x * (1.0 + 0.0 * x.mean().item()))


class Loops(Net):
    def forward(self, x: Tensor) -> Any:
        return torch.cat([self.net(one.unsqueeze(0)) for one in x])


class Masks(Net):
    def forward(self, x: Tensor) -> Any:
        z = self.net(x)
        z[z[:, 0] > 100] = 0.0
        return z


class Selects(Net):
    def forward(self, x: Tensor) -> Any:
        z = self.net(x)
        bright = x.flatten(1).mean(1) > 0.5
        out = torch.zeros_like(z)
        out[bright], out[~bright] = z[bright], 2 * z[~bright]
        return out


asserts, rescales, items, loops, masks, selects = Asserts, Rescales, Items, Loops, Masks, Selects


# Outputs.
class Pair(NamedTuple):
    logits: Tensor
    aux: Tensor


@dataclass
class Answer:
    logits: Tensor
    loss: Tensor | None = None


def as_dict() -> nn.Module:
    return Net(after=lambda z: {"logits": z, "features": z.tanh()})


def as_tuple() -> nn.Module:
    return Net(after=lambda z: (z, z.flatten()))


def as_named_tuple() -> nn.Module:
    return Net(after=lambda z: Pair(z, -z))


def as_dataclass() -> nn.Module:
    return Net(after=lambda z: Answer(z))


# State, other images, chance.
class Counts(Net):
    def __init__(self) -> None:
        super().__init__()
        self.calls: Tensor
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Any:
        self.calls += 1
        return self.net(x)


class Random(Net):
    def forward(self, x: Tensor) -> Any:
        return self.net(x + 0.02 * torch.randn_like(x))


counts = Counts
random = Random


def mixes() -> nn.Module:
    return Net(lambda x: x - 0.1 * x.mean(0, keepdim=True))


# Wrappings.
def channels_last() -> nn.Module:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, CLASSES))
    return net.to(memory_format=torch.channels_last)


def hooked() -> nn.Module:
    net = layers()
    net[1].register_forward_hook(lambda module, given, result: 1.5 * result)
    net[3].register_forward_pre_hook(lambda module, given: (given[0] * 0.5,))
    return net


def with_weight_norm() -> nn.Module:
    return nn.Sequential(nn.Flatten(), weight_norm(nn.Linear(PIXELS, CLASSES)))


def with_spectral_norm() -> nn.Module:
    return nn.Sequential(nn.Flatten(), spectral_norm(nn.Linear(PIXELS, CLASSES)))


def with_old_weight_norm() -> nn.Module:
    return nn.Sequential(nn.Flatten(), old_weight_norm(nn.Linear(PIXELS, CLASSES)))


# Files that hold a network.
class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = layers()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x / 255) if bool(x.max() > 1.5) else self.net(x)


def script_in_place() -> nn.Module:
    return torch.jit.script(relu())


def script_branches() -> nn.Module:
    return torch.jit.script(Branches())


def script_quantised() -> nn.Module:
    net = torch.ao.quantization.quantize_dynamic(layers().eval(), {nn.Linear}, torch.qint8)
    return torch.jit.script(net)
