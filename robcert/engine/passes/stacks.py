"""The networks of all classes at once."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robcert.nn.heads import LabelStacks


class AllStacks(nn.Module):
    """`LabelStacks` with one product of matrices a layer, in place of one for each class.

    Shapes: (n, features) -> (n, classes).
    """

    def __init__(self, layer: LabelStacks) -> None:
        super().__init__()
        stacks = [list(cast("nn.Sequential", stack)) for stack in layer.stacks]
        self.classes = len(stacks)
        self.activations = nn.ModuleList(stacks[0][1::2])
        for k, linears in enumerate(zip(*(stack[::2] for stack in stacks), strict=True)):
            weights = torch.stack([cast("nn.Linear", linear).weight.detach() for linear in linears])
            biases = torch.stack([cast("nn.Linear", linear).bias.detach() for linear in linears])
            # All classes read the same features, so their first layers are one; behind it each reads its own.
            self.register_buffer(f"weight{k}", weights.flatten(0, 1) if k == 0 else weights.mT.contiguous())
            self.register_buffer(f"bias{k}", biases.flatten() if k == 0 else biases[:, None])

    @staticmethod
    def fits(layer: nn.Module) -> bool:
        """Whether a layer is such stacks, and their nonlinearities have no numbers of their own."""
        return type(layer) is LabelStacks and not any(
            any(True for _ in module.parameters()) or any(True for _ in module.buffers())
            for stack in layer.stacks
            for module in list(cast("nn.Sequential", stack))[1::2]
        )

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        n = len(x)
        y = F.linear(x, self.get_buffer("weight0"), self.get_buffer("bias0"))
        y = y.view(n, self.classes, -1).transpose(0, 1)  # (classes, n, neurons), here and below
        for k, activation in enumerate(self.activations, 1):
            y = activation(y.reshape(self.classes * n, -1)).view(self.classes, n, -1)
            y = torch.baddbmm(self.get_buffer(f"bias{k}"), y, self.get_buffer(f"weight{k}"))
        return y[..., 0].t()
