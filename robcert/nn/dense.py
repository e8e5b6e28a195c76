"""Networks without convolutions, for inputs of any shape."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from robcert.nn import architecture


@architecture("mlp")
def mlp(
    input_shape: Sequence[int] = (1, 8, 8), num_classes: int = 10, *, hidden: Sequence[int] = (256, 256)
) -> nn.Module:
    """Linear layers with ReLU.

    Args:
        input_shape: the shape of one input; it is flattened.
        num_classes: how many logits.
        hidden: neurons of each layer before the last.
    """
    width = math.prod(input_shape)
    layers: list[nn.Module] = [nn.Flatten()]
    for neurons in hidden:
        layers += [nn.Linear(width, neurons), nn.ReLU()]
        width = neurons
    layers.append(nn.Linear(width, num_classes))
    return nn.Sequential(*layers)


@architecture("linear")
def linear(input_shape: Sequence[int] = (1, 8, 8), num_classes: int = 10) -> nn.Module:
    """One linear layer: the classifier whose robustness radius is known in closed form."""
    return mlp(input_shape, num_classes, hidden=())
