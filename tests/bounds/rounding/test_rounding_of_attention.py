"""What float32 makes of attention, softmax and normalisation lies in the intervals of the executed network."""

from __future__ import annotations

import copy

import pytest
import torch

from robcert.bounds.linear.bounds import relax
from robcert.bounds.linear.inputs import region
from robcert.bounds.linear.program import program
from robcert.network import from_module
from tests.bounds.linear.test_attention import network

NAMES = ["multihead", "fused", "matmul", "einsum", "group norm", "instance norm", "rms norm", "softmax", "gated"]


@pytest.mark.parametrize("size", [0.02, 1.0, 30.0])
@pytest.mark.parametrize("name", NAMES)
def test_executed_logits_lie_in_their_interval_and_it_is_narrow(name: str, size: float) -> None:
    torch.manual_seed(7)
    module = network(name).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() > 1:
                parameter *= 1.5
    model = from_module(module, (2, 5, 5), 4, box=(-size, size))
    compiled = program(model)
    assert not compiled.refused
    x = (torch.rand(64, 2, 5, 5) * 2 - 1) * size
    found = relax(compiled, region(x, torch.zeros(64), "linf", model.box), "ibp")
    interval, known = found.intervals[compiled.logits], ~found.overflows.expand(64)
    assert int(known.sum()) >= (0 if name in ("group norm", "instance norm") and size < 1 else 64)
    with torch.no_grad():
        executed, exact = module(x).double(), copy.deepcopy(module).double()(x.double())
    for y in (executed, exact):
        assert bool(((interval.lower <= y) & (y <= interval.upper))[known].all())
    if bool(known.all()):
        off = (executed - exact).abs().amax()
        width = (interval.upper - interval.lower).amax()
        assert float(off) < float(width) / 2 < 0.5
