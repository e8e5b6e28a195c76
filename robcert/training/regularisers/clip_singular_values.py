"""Singular values of convolutions, clipped every so many steps."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from robcert.errors import UsageError
from robcert.nn.nonexpansive import input_sizes, trained_weight
from robcert.training.context import TrainingContext
from robcert.training.regularisers import Regulariser, RegulariserTable, regulariser


@regulariser("clip_singular_values")
class ClipSingularValues(RegulariserTable):
    """Every convolution is projected now and then to one whose singular values are small.

    Attributes:
        largest: what larger singular values become.
        every: steps from one projection to the next.
    """

    name: Literal["clip_singular_values"]
    largest: float = Field(gt=0)
    every: int = Field(default=100, ge=1)

    def build(self) -> Regulariser:
        """Return the regulariser for one training."""
        return ClipSingularValuesRegulariser(self)


class ClipSingularValuesRegulariser(Regulariser):
    """Clips the singular values of each convolution as if it wrapped around the image, without stride.

    It is one projection and not exact: cut back to its size, the kernel has a larger norm again, and zero padding does
    not wrap. Where the objective has a parametrisation, what is clipped is the weight below it.

    Source: H. Sedghi, V. Gupta & P. M. Long, The Singular Values of Convolutional Layers, ICLR 2019, section 3.
    """

    def __init__(self, table: ClipSingularValues) -> None:
        self.table = table
        self.sizes: dict[nn.Conv2d, tuple[int, ...]] = {}

    def prepare(self, net: nn.Module, context: TrainingContext) -> None:
        """Learn the size of the image that each convolution reads.

        Raises:
            UsageError: no convolution has a kernel that fits into its input.
        """
        layers = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
        self.sizes = {
            layer: size
            for layer, size in input_sizes(net, layers, context.input_shape).items()
            if all(kernel <= length for kernel, length in zip(layer.kernel_size, size, strict=True))
        }
        if not self.sizes:
            raise UsageError(
                "clip_singular_values found no convolution in the network", "Remove it from the recipe's regularisers."
            )

    def after(self, net: nn.Module, step: int) -> None:
        """Clip, every so many steps."""
        del net
        if step % self.table.every:
            return
        for layer, size in self.sizes.items():
            weight = trained_weight(layer)
            weight.copy_(clipped(weight, size, self.table.largest, layer.groups))


def clipped(kernel: Tensor, size: tuple[int, ...], largest: float, groups: int = 1) -> Tensor:
    """Return a kernel whose circular convolution was clipped to singular values of at most ``largest``.

    The Fourier transform of a circular convolution is a matrix (out, in) for each frequency; their singular values
    together are its own.

    Args:
        kernel: (out, in / groups, height, width).
        size: (height, width) of the image, at least those of the kernel.
        largest: singular value.
        groups: of the convolution; each is clipped for itself.

    Returns:
        The same shape: the first rows and columns of the clipped kernel.
    """
    height, width = kernel.shape[2:]
    blocks = torch.fft.rfft2(kernel.unflatten(0, (groups, -1)), s=size).movedim((1, 2), (-2, -1))
    left, values, right = torch.linalg.svd(blocks, full_matrices=False)
    blocks = (left * values.clamp_max(largest).unsqueeze(-2)) @ right
    whole = torch.fft.irfft2(blocks.movedim((-2, -1), (1, 2)), s=size)
    return whole.flatten(0, 1)[..., :height, :width]
