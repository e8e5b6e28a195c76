r"""Networks whose matrices have orthonormal rows or columns, with MaxMin between them.

Every layer is nonexpansive in l2, and most of them keep distances, so the product of norms is the slope that the
network has. Rows of the last matrix are orthonormal as well: the difference of two logits changes by at most
:math:`\sqrt 2` times what the image moves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robcert.errors import UsageError
from robcert.nn import architecture


class MaxMin(nn.Module):
    r"""The larger and the smaller of two entries: unit k is paired with unit k + d/2 of d.

    At every point it is a permutation, so it keeps gradients and, between points, does not stretch distances in any
    :math:`l_p`.

    Source: C. Anil, J. Lucas, R. Grosse, Sorting out Lipschitz function approximation, 2019, section 4.1 (GroupSort 2).
    """

    def forward(self, x: Tensor) -> Tensor:
        """(n, d) -> (n, d), d even."""
        first, second = x.chunk(2, dim=1)
        return torch.cat([torch.maximum(first, second), torch.minimum(first, second)], dim=1)


@architecture("orthogonal")
def orthogonal(
    input_shape: Sequence[int] = (1, 8, 8),
    num_classes: int = 10,
    *,
    hidden: Sequence[int] = (512, 512, 512, 512),
    bias: bool = False,
) -> nn.Module:
    """Matrices, orthonormal at the beginning, with MaxMin between them.

    The optimiser `stiefel-muon` keeps them orthonormal.

    Args:
        input_shape: the shape of one input; it is flattened.
        num_classes: how many logits.
        hidden: neurons of each layer before the last, even numbers.
        bias: whether each layer adds one, 0 at the beginning; it has no part in any slope.

    Raises:
        UsageError: an odd number of neurons.
    """
    width = math.prod(input_shape)
    layers: list[nn.Module] = [nn.Flatten()]
    for neurons in (*hidden, num_classes):
        matrix = nn.Linear(width, neurons, bias=bias)
        nn.init.orthogonal_(matrix.weight)
        if bias:
            nn.init.zeros_(matrix.bias)
        layers += [matrix, MaxMin()]
        width = neurons
    if any(neurons % 2 for neurons in hidden):
        raise UsageError(f"hidden is {list(hidden)}, but MaxMin pairs neurons", "Give even numbers.")
    return nn.Sequential(*layers[:-1])
