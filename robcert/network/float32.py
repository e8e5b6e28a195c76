"""float32 means float32, also on a GPU."""

from __future__ import annotations

import torch


def exactly_float32(device: torch.device) -> None:
    """Have this process compute float32 products and convolutions on GPUs without TF32.

    TF32 keeps ten bits of every factor, and torch lets cuDNN take it for convolutions unless it is told otherwise. What
    fools such a network need not fool the network. (Where fewer bits will do, the search takes bfloat16 and has what it
    finds confirmed.)

    Args:
        device: where the network is; nothing is changed for a CPU.
    """
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
