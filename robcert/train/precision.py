"""Training in bfloat16 where the processor multiplies it faster; weights, logits and losses stay float32."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Mixed(nn.Module):
    """A network whose matrix products and convolutions run in bfloat16: same parameters, float32 logits.

    Only the arithmetic of training differs: parameters, their gradients and the optimiser are float32, and
    the trained network is ``net``, evaluated in float32 like any other.

    Args:
        net: the network; its convolutions are laid out channels last, which bfloat16 kernels want.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        # The overload that takes a memory format is not typed.
        self.net: nn.Module = net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, x: Tensor) -> Tensor:
        """(n, *shape) -> (n, classes), float32."""
        with torch.autocast(x.device.type, torch.bfloat16):
            logits = self.net(x)
        return logits.float()
