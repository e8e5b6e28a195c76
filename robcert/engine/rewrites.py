"""Rewritings of a copy of a network that make a pass faster and change no answer."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

_FEW = 4
"""Channels of a picture: for more of them, reading each twice costs more than it saves."""


def pool_before_relu(network: nn.Module) -> None:
    """In place: a max-pooling that follows a ReLU goes before it, so that the ReLU sees fewer entries.

    max(relu(x)) = relu(max(x)), and where that is 0 no gradient passes either way.
    """
    for module in network.modules():
        if type(module) is not nn.Sequential:
            continue
        for (first, relu), (second, pool) in itertools.pairwise(list(module.named_children())):
            if type(relu) is nn.ReLU and type(pool) is nn.MaxPool2d and not pool.return_indices:
                setattr(module, first, pool)
                setattr(module, second, nn.ReLU())


class SplitInput(nn.Module):
    """A convolution in bfloat16 that reads a float32 picture as the sum of two bfloat16 numbers, so to 16 bits.

    Twice the channels with the same weights: w hi + w lo = w x, summed in float32 by the kernel. The gradient comes
    back through the first of the two, which is the gradient by x.

    Shapes: (n, c, h, w) float32 -> (n, out, h', w') bfloat16.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(
            2 * convolution.in_channels,
            convolution.out_channels,
            (convolution.kernel_size[0], convolution.kernel_size[1]),
            (convolution.stride[0], convolution.stride[1]),
            convolution.padding if isinstance(convolution.padding, str) else tuple(convolution.padding),  # type: ignore[arg-type]
            (convolution.dilation[0], convolution.dilation[1]),
            bias=convolution.bias is not None,
            device=convolution.weight.device,
            dtype=torch.bfloat16,
        )
        with torch.no_grad():
            self.convolution.weight.copy_(convolution.weight.repeat(1, 2, 1, 1))
            if convolution.bias is not None and self.convolution.bias is not None:
                self.convolution.bias.copy_(convolution.bias)

    @staticmethod
    def fits(layer: nn.Module) -> bool:
        """Whether a layer is a convolution of pictures that can be replaced."""
        return (
            type(layer) is nn.Conv2d
            and layer.groups == 1
            and layer.in_channels <= _FEW
            and layer.padding_mode == "zeros"
        )

    def forward(self, x: Tensor) -> Tensor:
        """The convolution of x."""
        high = x.bfloat16()
        low = (x.detach() - high.detach().float()).bfloat16()
        both = torch.cat([high, low], dim=1)
        return self.convolution(both.contiguous(memory_format=torch.channels_last))
