"""float32 means float32, also on a GPU, where torch takes TF32 for convolutions unless it is told otherwise."""

from __future__ import annotations

import pytest
import torch

from robcert.network.float32 import exactly_float32


@pytest.fixture
def switches(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Stand-ins, since the real ones have no effect on a machine without a GPU."""
    found = {"cudnn": type("Flags", (), {"allow_tf32": True}), "matmul": type("Flags", (), {"allow_tf32": True})}
    monkeypatch.setattr(torch.backends, "cudnn", found["cudnn"])
    monkeypatch.setattr(torch.backends.cuda, "matmul", found["matmul"])
    return dict(found)


def test_tf32_is_off_once_a_network_is_on_a_gpu(switches: dict[str, object]) -> None:
    exactly_float32(torch.device("cpu"))
    assert {name: flags.allow_tf32 for name, flags in switches.items()} == {"cudnn": True, "matmul": True}
    exactly_float32(torch.device("cuda", 1))
    assert {name: flags.allow_tf32 for name, flags in switches.items()} == {"cudnn": False, "matmul": False}
