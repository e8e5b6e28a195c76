"""The memory format of the search: the same answers, and only where it is faster."""

from __future__ import annotations

import pytest
import torch
from toys import run_leg

from robcert.accel import layout
from robcert.accel.layout import ChannelsLast, faster_layout, layout_of
from robcert.data import load_dataset
from robcert.network import load_model
from robcert.types import Threat


class Views(torch.nn.Module):
    """A network that only takes channels first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (n, 256)."""
        return self.conv(x).view(len(x), -1)


@pytest.mark.parametrize("name", ["digits-plain", "digits-l2nnn"])
def test_the_same_answers(name: str) -> None:
    model, x = load_model(name), load_dataset("digits", n=64).x
    with torch.no_grad():
        as_it_is, moved = model.module(x), ChannelsLast(model.module, x)(x)
    allowed = model.rounding * as_it_is.abs().amax(dim=1, keepdim=True)
    assert bool(((as_it_is - moved).abs() <= allowed).all())


@pytest.mark.parametrize(
    ("as_it_is", "moved", "rewritten", "expected"),
    [
        (9e-3, 7e-3, 6e-3, "rewritten"),
        (9e-3, 6e-3, 7e-3, "channels_last"),
        (3e-3, 2e-3, 1e-3, "channels_last"),
        (9e-3, 8.9e-3, 8.8e-3, "channels_first"),
        (3e-3, 2.9e-3, 1e-3, "channels_first"),
        (2e-4, 1e-4, 1e-4, "channels_first"),
    ],
)
def test_the_clock_decides(
    as_it_is: float, moved: float, rewritten: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, x = load_model("digits-plain").module, torch.rand(8, 1, 8, 8)
    times = [as_it_is, moved, rewritten]
    monkeypatch.setattr(layout, "benchmark", lambda networks, x, seconds: times[: len(networks)])
    assert layout_of(faster_layout(net, x)) == expected


def test_what_a_run_has_found_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = load_model("digits-plain").module, torch.rand(8, 1, 8, 8)
    monkeypatch.setattr(layout, "benchmark", lambda *_: pytest.fail("the clock was asked"))
    assert faster_layout(net, x, "channels_first") is net
    assert layout_of(faster_layout(net, x, "channels_last")) == "channels_last"
    assert layout_of(faster_layout(net, x, "rewritten")) == "rewritten"


def test_what_has_no_other_form_stays() -> None:
    views = Views().eval()
    assert faster_layout(views, torch.rand(8, 1, 8, 8)) is views, "it calls view on its pictures"
    dense = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    assert faster_layout(dense, torch.rand(8, 1, 8, 8)) is dense, "no convolution"
    assert faster_layout(dense, torch.rand(8, 64)) is dense, "no pictures"


@pytest.mark.parametrize("name", ["cw", "pgd", "fab", "square"])
def test_the_same_verdicts(name: str) -> None:
    model, data = load_model("digits-plain"), load_dataset("digits", n=60)
    with torch.no_grad():
        y = model.module(data.x).argmax(1)
    broken: list[torch.Tensor] = []
    for form in (None, ChannelsLast(model.module, data.x)):
        bracket, _ = run_leg(model, data.x, y, Threat("l2", (0.5,)), name, iterations=50, layout=form)
        for k, one in bracket.found().items():
            assert int(model.module(one.point[None]).argmax()) != int(y[k]), "verified by the network as it was loaded"
        broken.append(bracket.distance <= 0.5)
    assert 0 < int(broken[0].sum()) < 60, "the comparison means something"
    assert int((broken[0] != broken[1]).sum()) <= 1, "an image on the very boundary may go either way"
