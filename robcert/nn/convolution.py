"""A convolution whose input is not divided by the square root of the copies it makes."""

from __future__ import annotations

from torch import nn


class UndividedConv2d(nn.Conv2d):
    """Computes what `torch.nn.Conv2d` computes; constrained, its flattened weight is nonexpansive, it is not.

    Paper B trains networks with and without the division of the input in front of each convolution. Without
    it the layer has W' = W / sqrt(b(W)), but every entry is read up to K times, so that it may expand distances by
    sqrt(K), and a confidence gap guarantees nothing before it is divided by a bound of the network.

    Source: Certified Defense to Adversarial Attack with Nonexpansive Neural Networks, tables 1 and 2 ("divide
    before convolution").
    """
