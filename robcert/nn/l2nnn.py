"""The L2-nonexpansive classifiers of papers A and B for images of any size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeVar

from torch import nn

from robcert.nn import architecture
from robcert.nn.activations import TwoSidedReLU
from robcert.nn.convolution import UndividedConv2d
from robcert.nn.heads import Heads, LabelStacks
from robcert.nn.nonexpansive import constrain, fold
from robcert.nn.pooling import NormPool2d
from robcert.nn.split import Residual

Module = TypeVar("Module", bound=nn.Module)
HeadKind = Literal["multi", "single"]


@architecture("l2nnn")
def l2nnn(
    input_shape: Sequence[int] = (1, 8, 8),
    num_classes: int = 10,
    *,
    channels: Sequence[int] = (16, 32),
    kernel: int = 3,
    stride: int = 1,
    hidden: Sequence[int] = (128, 128),
    label_hidden: Sequence[int] = (),
    heads: HeadKind = "multi",
    activation: Literal["two-sided relu", "relu"] = "two-sided relu",
    pooling: Literal["norm", "max"] = "norm",
    divide_before: bool = True,
) -> nn.Module:
    """Nonexpansive convolutions with norm-pooling, shared linear layers, one filter a class.

    Each convolution divides the size of the image by its stride (zero padding), and its input by the square
    root of the copies it makes (with stride 1: by the kernel side); it is followed by two-sided ReLU and 2x2
    norm-pooling, each shared linear layer by two-sided ReLU; the last layer has one row of unit norm for each
    class. Each logit is nonexpansive in l2, so a right answer with confidence gap g does not change within
    g / 2.

    The weights are plain and fulfil the constraint when the network is made (orthogonal, divided by
    sqrt(b)); to train, put it on with `robcert.nn.nonexpansive.constrain` and take it off with `fold`.

    Args:
        input_shape: (channels, height, width).
        num_classes: how many logits.
        channels: filters of each convolution, before two-sided ReLU doubles them.
        kernel: side of the kernels; larger than the stride by an even number.
        stride: of each convolution; the kernel side a multiple of it, every entry is copied equally often.
        hidden: neurons of each shared linear layer, before two-sided ReLU doubles them.
        label_hidden: neurons of each linear layer that every class has for itself (paper A's MNIST network
            has such a stack for each label).
        heads: "multi" (each logit nonexpansive, guarantee g / 2) or "single" (the whole logit vector, guarantee
            g / sqrt 2; no ``label_hidden``).
        activation: "relu" loses distances: the fourth row of paper A's table 3.
        pooling: "max" likewise: the third row.
        divide_before: False: convolutions expand (paper B, `UndividedConv2d`), and no gap is a guarantee.

    Source: L2-Nonexpansive Neural Networks, section 2 and appendix A.
    """
    if stride < 1 or kernel < stride or (kernel - stride) % 2:
        expected = "an odd one" if stride == 1 else f"{stride} or larger by an even number"
        raise ValueError(f"the kernel side is {kernel} with stride {stride}, but {expected} was expected")
    relu, widening = {"two-sided relu": (TwoSidedReLU, 2), "relu": (nn.ReLU, 1)}[activation]
    pool = {"norm": NormPool2d, "max": nn.MaxPool2d}[pooling]
    width, height, side = input_shape
    layers: list[nn.Module] = []
    for filters in channels:
        convolution = _convolution(divide_before)(width, filters, kernel, stride, padding=(kernel - stride) // 2)
        layers += [convolution, relu(), pool(2)]
        width, height, side = widening * filters, height // stride // 2, side // stride // 2
    layers.append(nn.Flatten())
    width = width * height * side
    for neurons in hidden:
        layers += [nn.Linear(width, neurons), relu()]
        width = widening * neurons
    if label_hidden:
        if heads == "single":
            raise ValueError("label_hidden makes one network for each class: heads was expected to be 'multi'")
        layers.append(LabelStacks(width, num_classes, label_hidden, relu, widening))
    else:
        layers.append(_heads(heads)(width, num_classes))
    return orthogonal(nn.Sequential(*layers))


@architecture("l2nnn-resnet")
def l2nnn_resnet(
    input_shape: Sequence[int] = (1, 8, 8),
    num_classes: int = 10,
    *,
    channels: Sequence[int] = (8, 16),
    blocks: int = 1,
    kernel: int = 3,
    hidden: Sequence[int] = (64,),
    ratio: Literal["layer", "channel"] = "layer",
    heads: HeadKind = "multi",
    divide_before: bool = True,
) -> nn.Module:
    """Nonexpansive residual blocks: what splits and meets again shrinks by t and sqrt(1 - t^2).

    A stage is a convolution that widens, with two-sided ReLU, then residual blocks of two convolutions with
    two-sided ReLU (`robcert.nn.split.Residual`), then 2x2 norm-pooling; then linear layers and heads as in
    `l2nnn`. Convolutions keep the size of the image.

    Args:
        input_shape: (channels, height, width).
        num_classes: how many logits.
        channels: filters of the convolutions of each stage, before two-sided ReLU doubles them.
        blocks: residual blocks of each stage.
        kernel: odd side of the kernels.
        hidden: neurons of each linear layer, before two-sided ReLU doubles them.
        ratio: one t a "layer", or one a "channel" (a larger bound is then proved for its certificate).
        heads: as in `l2nnn`.
        divide_before: as in `l2nnn`.

    Source: Certified Defense to Adversarial Attack with Nonexpansive Neural Networks ("Extend L2NNN to
    ResNet"); L2-Nonexpansive Neural Networks, appendix A.3. Paper B gives no sizes: they are ours.
    """
    if kernel % 2 == 0:
        raise ValueError(f"the kernel side is {kernel}, but an odd one was expected (the image keeps its size)")
    conv = _convolution(divide_before)
    width, height, side = input_shape
    layers: list[nn.Module] = []
    for filters in channels:
        layers += [conv(width, filters, kernel, padding=kernel // 2), TwoSidedReLU()]
        width = 2 * filters
        for _ in range(blocks):
            branch: list[nn.Module] = []
            for _ in range(2):
                branch += [conv(width, filters, kernel, padding=kernel // 2), TwoSidedReLU()]
            layers.append(Residual(nn.Sequential(*branch), () if ratio == "layer" else (width, 1, 1)))
        layers.append(NormPool2d(2))
        height, side = height // 2, side // 2
    layers.append(nn.Flatten())
    width = width * height * side
    for neurons in hidden:
        layers += [nn.Linear(width, neurons), TwoSidedReLU()]
        width = 2 * neurons
    layers.append(_heads(heads)(width, num_classes))
    return orthogonal(nn.Sequential(*layers))


def orthogonal(net: Module) -> Module:
    """Draws orthogonal weights, in place, and divides them: plain layers that fulfil the constraint."""
    for layer in net.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            # Flattened, an orthogonal weight has W W^T = 1 or W^T W = 1, so that b(W) = 1 and no distance
            # is lost.
            nn.init.orthogonal_(layer.weight)
            assert layer.bias is not None
            bound = 1 / math.sqrt(layer.weight[0].numel())
            nn.init.uniform_(layer.bias, -bound, bound)
    return fold(constrain(net))


def _convolution(divide_before: bool) -> type[nn.Conv2d]:
    return nn.Conv2d if divide_before else UndividedConv2d


def _heads(kind: HeadKind) -> type[nn.Linear]:
    return {"multi": Heads, "single": nn.Linear}[kind]
