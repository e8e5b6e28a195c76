"""Ordinary convolutional networks."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from robcert.nn import architecture


@architecture("cnn")
def cnn(
    input_shape: Sequence[int] = (1, 8, 8),
    num_classes: int = 10,
    *,
    channels: Sequence[int] = (32, 64),
    hidden: Sequence[int] = (128,),
    kernel: int = 3,
    batch_norm: bool = False,
    strided: bool = False,
) -> nn.Module:
    """Convolutions that keep the size, each with ReLU and 2x2 max-pooling; then linear layers with ReLU.

    Args:
        input_shape: (channels, height, width).
        num_classes: how many logits.
        channels: filters of each convolution.
        hidden: neurons of each linear layer before the last.
        kernel: odd side of the kernels.
        batch_norm: batch normalisation after each convolution.
        strided: convolutions of stride 2 in place of the pooling; a side is then halved upwards.
    """
    if kernel % 2 == 0:
        raise ValueError(f"the kernel side is {kernel}, but an odd one was expected (the image keeps its size)")
    width, height, side = input_shape
    layers: list[nn.Module] = []
    for filters in channels:
        stride = 2 if strided else 1
        layers.append(nn.Conv2d(width, filters, kernel, stride, kernel // 2, bias=not batch_norm))
        if batch_norm:
            layers.append(nn.BatchNorm2d(filters))
        layers.append(nn.ReLU())
        if not strided:
            layers.append(nn.MaxPool2d(2))
        width, height, side = filters, (height + strided) // 2, (side + strided) // 2
    layers.append(nn.Flatten())
    width = width * height * side
    for neurons in hidden:
        layers += [nn.Linear(width, neurons), nn.ReLU()]
        width = neurons
    layers.append(nn.Linear(width, num_classes))
    return nn.Sequential(*layers)


@architecture("lenet")
def lenet(input_shape: Sequence[int] = (1, 28, 28), num_classes: int = 10) -> nn.Module:
    """The MNIST network of Madry et al.: two 5x5 convolutions (32, 64), each pooled 2x2, and 1,024 neurons.

    Source: A. Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018,
    section 4.
    """
    return cnn(input_shape, num_classes, channels=(32, 64), hidden=(1024,), kernel=5)
