"""What is evaluated is the network with plain weights: no operation more than that one."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.utils._python_dispatch import TorchDispatchMode

from robcert.network import load_model
from robcert.network.zoo import zoo_names
from robcert.nn import architectures
from robcert.nn.activations import TwoSidedReLU
from robcert.nn.heads import LabelStacks
from robcert.nn.nonexpansive import constrain, fold
from robcert.nn.pooling import NormPool2d


class Counted(TorchDispatchMode):
    """The operations that are executed, each with the numbers it writes."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: Counter[str] = Counter()
        self.written = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        self.operations[str(func)] += 1
        self.written += found.numel() if isinstance(found, torch.Tensor) else 0
        return found


def counted(net: nn.Module, x: torch.Tensor) -> Counted:
    with torch.no_grad(), Counted() as seen:
        net(x)
    return seen


class Beside(nn.Module):
    """Networks that read the same numbers, their outputs side by side."""

    def __init__(self, networks: list[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, features) to (n, networks)."""
        return torch.cat([network(x) for network in self.networks], dim=1)


def plain(layers: nn.Module) -> nn.Module:
    """The same layers of torch with weights of their own: what an ordinary network of this shape executes."""
    copies: list[nn.Module] = []
    for layer in layers.children():
        if isinstance(layer, nn.Conv2d):
            copies.append(
                nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding)
            )
        elif isinstance(layer, nn.Linear):
            copies.append(nn.Linear(layer.in_features, layer.out_features))
        elif isinstance(layer, LabelStacks):
            copies.append(Beside([plain(stack) for stack in layer.stacks]))
        else:
            assert isinstance(layer, TwoSidedReLU | NormPool2d | nn.Flatten)
            copies.append(layer)
    return nn.Sequential(*copies).eval()


def test_a_folded_network_executes_what_a_plain_one_does() -> None:
    net = architectures.get("l2nnn")((1, 28, 28), 10, channels=[8, 8], kernel=5, hidden=[32])
    x = torch.rand(4, 1, 28, 28)
    constrained = counted(constrain(net), x)
    assert any(parametrize.is_parametrized(layer) for layer in net.modules())
    folded = counted(fold(net), x)
    expected = counted(plain(net), x)
    assert folded.operations == expected.operations
    assert folded.written == expected.written
    assert sum(constrained.operations.values()) > sum(expected.operations.values())


@pytest.mark.parametrize("name", [name for name in zoo_names() if "l2nnn" in name and "resnet" not in name])
def test_the_zoo_is_folded(name: str) -> None:
    model = load_model(name)
    x = torch.rand(4, *model.input_shape)
    assert counted(model.module, x).operations == counted(plain(model.module), x).operations
