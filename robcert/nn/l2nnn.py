"""The L2-nonexpansive classifier of paper A for images of any size."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from robcert.nn import architecture
from robcert.nn.activations import TwoSidedReLU
from robcert.nn.heads import Heads
from robcert.nn.nonexpansive import constrain, fold
from robcert.nn.pooling import NormPool2d


@architecture("l2nnn")
def l2nnn(
    input_shape: Sequence[int] = (1, 8, 8),
    num_classes: int = 10,
    *,
    channels: Sequence[int] = (16, 32),
    kernel: int = 3,
    hidden: Sequence[int] = (128, 128),
) -> nn.Module:
    """Nonexpansive convolutions with norm-pooling, shared linear layers, one filter a class.

    Each convolution keeps the size of the image (stride 1, zero padding) and divides by its kernel side; it
    is followed by two-sided ReLU and 2x2 norm-pooling, each shared linear layer by two-sided ReLU; the last
    layer has one row of unit norm for each class. Each logit is nonexpansive in l2, so a right answer with
    confidence gap g does not change within g / 2.

    The weights are plain and fulfil the constraint when the network is made (orthogonal, divided by
    sqrt(b)); to train, put it on with `robcert.nn.nonexpansive.constrain` and take it off with `fold`.

    Args:
        input_shape: (channels, height, width).
        num_classes: how many logits.
        channels: filters of each convolution, before two-sided ReLU doubles them.
        kernel: odd side of the kernels.
        hidden: neurons of each shared linear layer, before two-sided ReLU doubles them.

    Source: L2-Nonexpansive Neural Networks, section 2 and appendix A.
    """
    if kernel % 2 == 0:
        raise ValueError(f"the kernel side is {kernel}, but an odd one was expected (the image keeps its size)")
    width, height, side = input_shape
    layers: list[nn.Module] = []
    for filters in channels:
        layers += [nn.Conv2d(width, filters, kernel, padding=kernel // 2), TwoSidedReLU(), NormPool2d(2)]
        width, height, side = 2 * filters, height // 2, side // 2
    layers.append(nn.Flatten())
    width = width * height * side
    for neurons in hidden:
        layers += [nn.Linear(width, neurons), TwoSidedReLU()]
        width = 2 * neurons
    layers.append(Heads(width, num_classes))
    net = nn.Sequential(*layers)
    for layer in net:
        if isinstance(layer, nn.Linear | nn.Conv2d):
            # Flattened, an orthogonal weight has W W^T = 1 or W^T W = 1, so that b(W) = 1 and no distance
            # is lost.
            nn.init.orthogonal_(layer.weight)
            assert layer.bias is not None
            bound = 1 / math.sqrt(layer.weight[0].numel())
            nn.init.uniform_(layer.bias, -bound, bound)
    return fold(constrain(net))
