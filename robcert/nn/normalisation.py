"""Normalisation that is nonexpansive: means are subtracted, scales are divided by the largest of them.

What paper A's appendix A.5 allows. The subtraction over a subset of a layer is a projection, that of a batch
mean a bias; a division by a standard deviation is a scale like any other.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class SubtractMean(nn.Module):
    """x - mean(x) over some axes of each image: an orthogonal projection, so nonexpansive in l2.

    Args:
        axes: counted from 0 for the batch, which must not be among them; default: all of the image.

    Shapes: (n, ...) -> (n, ...).

    Source: L2-Nonexpansive Neural Networks, appendix A.5.
    """

    def __init__(self, axes: Sequence[int] | None = None) -> None:
        super().__init__()
        if axes is not None and any(axis < 1 for axis in axes):
            raise ValueError(f"the axes are {list(axes)}, but only axes from 1 on belong to one image")
        self.axes = None if axes is None else tuple(axes)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        axes = tuple(range(1, x.ndim)) if self.axes is None else self.axes
        return x - x.mean(dim=axes, keepdim=True)


class LargestScaleNorm(nn.Module):
    """Batch normalisation whose factors are divided by the largest of their absolute values.

    y_c = a_c (x_c - mean_c) + b_c with a_c = f_c / max_k |f_k| and f_c = gamma_c / sqrt(variance_c + eps). In
    training, mean and variance are those of the batch; in evaluation running averages, so that y is affine in x
    with slopes in [-1, 1].

    Args:
        channels: c.
        momentum: share of a new batch in the running averages.
        eps: added to the variance.

    Shapes: (n, c, ...) -> (n, c, ...).

    Source: L2-Nonexpansive Neural Networks, appendix A.5.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum = momentum
        self.eps = eps
        self.gamma = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        mean, variance = self.mean, self.variance
        if self.training:
            axes = (0, *range(2, x.ndim))
            mean, variance = x.mean(axes), x.var(axes, correction=0)
            with torch.no_grad():
                self.mean.lerp_(mean, self.momentum)
                self.variance.lerp_(variance, self.momentum)
        factor = self.gamma / torch.sqrt(variance + self.eps)
        # Divided as float32 divides, the largest is exactly 1; factors of zero stay zero.
        factor = factor / factor.abs().amax().clamp_min(torch.finfo(x.dtype).tiny)
        shape = (-1, *[1] * (x.ndim - 2))
        return factor.view(shape) * x + (self.bias - factor * mean).view(shape)
