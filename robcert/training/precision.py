"""Training in bfloat16 where the processor multiplies it faster; weights, logits and losses stay float32."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Mixed(nn.Module):
    """A network whose matrix products and convolutions run in bfloat16: same parameters, float32 logits.

    Only the arithmetic of training differs: parameters, their gradients and the optimiser are float32, and
    the trained network is ``net``, evaluated in float32 like any other. A processor without bfloat16 instructions
    would take several times as long as for float32; there it stays float32.

    Args:
        net: the network; its convolutions are laid out channels last, which bfloat16 kernels want.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        # The overload that takes a memory format is not typed.
        self.net: nn.Module = net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, x: Tensor) -> Tensor:
        """(n, *shape) -> (n, classes), float32."""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=multiplies_bfloat16(x.device)):
            logits = self.net(x)
        return logits.float()


def multiplies_bfloat16(device: torch.device) -> bool:
    """Return whether a device has instructions for products in bfloat16; kinds that are not CPUs are taken to."""
    if device.type != "cpu":
        return True
    known = getattr(torch.cpu, "get_capabilities", dict)()  # newer than the oldest torch that is supported
    if "avx512_bf16" in known:
        return bool(known["avx512_bf16"] or known.get("amx_bf16"))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
