"""The device that a user names."""

from __future__ import annotations

import torch

from robcert.errors import UsageError, first_line


def usable_device(name: str) -> torch.device:
    """Return the device of that name; "auto" is cuda where there is one.

    Raises:
        UsageError: torch has no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"the device {name!r} cannot be used ({first_line(error)})", "e.g. --device cpu") from None
    return device
