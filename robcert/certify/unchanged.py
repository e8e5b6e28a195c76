"""Whether a network is still the one that something was computed for."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


@torch.no_grad()
def state_of(module: nn.Module) -> tuple[Any, ...]:
    """What changes when a parameter or buffer does: its place, its version, and two sums over its entries.

    Writing through ``.data`` counts no version, so the numbers are looked at too.
    """
    found: list[Any] = []
    for tensor in (*module.parameters(), *module.buffers()):
        flat = tensor.detach().double().flatten()
        places = torch.arange(1, len(flat) + 1, dtype=torch.float64, device=flat.device)
        found.append((tensor.data_ptr(), tensor._version, repr(float(flat.sum())), repr(float(flat @ places))))
    return tuple(found)
