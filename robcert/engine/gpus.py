"""The GPUs of a machine."""

from __future__ import annotations

import torch


def gpus(device: str) -> tuple[torch.device, ...]:
    """All GPUs that are visible, where "cuda" stands for several; else none to name."""
    if device != "cuda" or torch.cuda.device_count() < 2:
        return ()
    return tuple(torch.device("cuda", k) for k in range(torch.cuda.device_count()))
