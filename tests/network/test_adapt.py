"""Networks of another form than float32 images in, one tensor of logits out: from Python."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from robcert.accel.benchmark import benchmark
from robcert.cli.main import _run
from robcert.errors import EvaluationError, network_fault, raised_by_network
from robcert.network import from_module
from robcert.network.adapt import Adapted, WithoutGradient, logits_key
from robcert.network.gradient import look_for_gradient
from robcert.runs.api import attack
from robcert.types import Dataset, Threat

SHAPE, N = (2, 3), 6


class Net(nn.Module):
    def __init__(self, before: Any = lambda x: x, after: Any = lambda z: z) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.last = nn.Linear(6, 3)
        self.before, self.after = before, after

    def forward(self, x: Tensor) -> Any:
        return self.after(self.last(self.before(x).flatten(1)))


def images(network: nn.Module) -> Dataset:
    x = torch.rand(N, *SHAPE, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        y = network(x.clone()).argmax(1)
    return Dataset("mine", "test", x, y, torch.arange(N), ("a", "b", "c"))


IN_PLACE = [
    lambda x: x.mul_(2),
    lambda x: x.data.add_(0.1),
    lambda x: x.clamp_(0, 1),
    lambda x: nn.functional.elu(x, inplace=True),
    lambda x: x[:, 0].zero_(),
]


@pytest.mark.parametrize("first", IN_PLACE)
def test_the_images_of_the_caller_stay_as_they_are(first: Any) -> None:
    network = Net(lambda x: (first(x), x)[1])
    data = images(network)
    kept = data.x.clone()
    model = from_module(network, SHAPE)
    assert isinstance(model.module, Adapted)
    record = attack(model, data, Threat("linf", (0.2,)), "pgd:5", certify="none")
    assert torch.equal(data.x, kept)
    assert record.models[0].legs[0].backwards > 0


def test_an_ordinary_network_stays_what_it_is() -> None:
    assert type(from_module(Net(), SHAPE).module) is Net
    normalised = from_module(Net(lambda x: x.sub_(1)), SHAPE, mean=[0.5], std=[0.5])
    assert not any(isinstance(layer, Adapted) for layer in normalised.module.modules()), "its input is made for it"


class Two(NamedTuple):
    hidden: Tensor
    scores: Tensor


@dataclass
class Holder:
    text: str
    logits: Tensor
    hidden: Tensor


Z, H = torch.zeros(4, 3), torch.zeros(4, 7)


@pytest.mark.parametrize(
    ("answer", "classes", "key"),
    [
        (Z, None, None),
        ((Z, "text"), None, 0),
        (["text", Z, Z[0]], None, 1),
        ((Z, Z), None, 0),
        (Two(H, Z), 3, "scores"),
        (OrderedDict(features=H, out=Z), None, "out"),
        ({"a": Z.long(), "b": Z}, None, "b"),
        (Holder("text", Z, H), None, "logits"),
    ],
)
def test_where_logits_are(answer: Any, classes: int | None, key: Any) -> None:
    assert logits_key(answer, 4, classes) == key


NONE = [(Two(H, Z), "several"), ({"a": Z.long()}, "none"), ("text", "a str"), (None, "NoneType"), ({}, "none")]


@pytest.mark.parametrize(("answer", "said"), NONE)
def test_an_answer_without_logits(answer: Any, said: str) -> None:
    with pytest.raises(EvaluationError, match=said):
        logits_key(answer, 4)


@pytest.mark.parametrize(
    ("network", "absent", "said"),
    [
        (Net(), False, ""),
        (Net(lambda x: torch.floor(3 * x)), False, "floor (in test_adapt.py:"),
        (Net(after=lambda z: z.detach() * 2), True, "detach (in test_adapt.py:"),
        (Net(lambda x: torch.tensor(x.tolist())), True, "autograd"),
        (Net(lambda x: torch.from_numpy(x.numpy() ** 2)), True, "(in test_adapt.py:"),
        (Net(after=lambda z: (z > 0).float() + z.sort(1).indices), True, "gt"),
        (Net(after=lambda z: z[z[:, 0] > 9] + 0 if len(z) == 0 else z), False, ""),
    ],
)
def test_what_loses_the_gradient(network: nn.Module, absent: bool, said: str) -> None:
    found = look_for_gradient(network.requires_grad_(False), torch.rand(4, *SHAPE))
    assert found.absent == absent
    assert bool(found.missing) == bool(said)
    if "test_adapt" in said:
        assert said in found.missing


def test_without_a_gradient_nothing_asks_for_one() -> None:
    network = Net(lambda x: x.detach())
    model = from_module(network, SHAPE)
    assert isinstance(model.module, WithoutGradient)
    assert not model.module(torch.rand(2, *SHAPE).requires_grad_()).requires_grad
    assert benchmark([model.module], torch.rand(8, *SHAPE), 0.01)[0] > 0
    record = attack(model, images(network), Threat("linf", (0.5,)))
    (found,) = record.models
    assert [leg.attack for leg in found.legs] == ["noise", "square", "square"]
    assert found.spent.backwards == 0 < found.spent.forwards
    assert any(leg.newly_broken for leg in found.legs), "half of the box breaks a linear network"
    with pytest.raises(EvaluationError, match=r"no gradient: .*detach.* needs one"):
        attack(model, images(network), Threat("linf", (0.5,)), "square:10,fab:5")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_logits_become_float32(dtype: torch.dtype) -> None:
    x = torch.rand(5, *SHAPE)
    inside = from_module(Net(lambda x: x.to(dtype)).to(dtype), SHAPE).module
    behind = from_module(Net(after=lambda z: z.to(dtype)), SHAPE).module
    for module in (inside, behind):
        assert module(x).dtype == torch.float32
        torch.testing.assert_close(module(x), Net()(x), rtol=0.02, atol=0.02)
    exact = behind.double()(x.double())
    assert exact.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


GONE = "the disk of the feature store is gone\nand more"


class Dies(Net):
    calls = 0

    def forward(self, x: Tensor) -> Any:
        type(self).calls += 1
        if type(self).calls > 40:
            raise ValueError(GONE)
        return super().forward(x)


def test_a_network_that_raises_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    network = Net()
    torch.save(network.state_dict(), "a.pt")
    data = images(network)
    import numpy as np

    np.savez("a.npz", x=data.x.numpy(), y=data.y.numpy())
    smoothing = ["certify", "--eps", "1", "--method", "smoothing"]
    for command in (["attack", "--eps", "0.1", "--plan", "pgd:90", "--certify", "none"], smoothing):
        Dies.calls = 0
        arch = ["--arch", f"{Dies.__module__}:Dies", "--classes", "3", "--input-shape", "2,3"]
        assert _run([command[0], "a.pt", *command[1:], *arch, "--data", "npz:a.npz"]) == 3
        said = capsys.readouterr().err
        assert "defect of robcert" not in said
        assert "ValueError: the disk of the feature store is gone (in test_adapt.py:" in said
        assert "and more" not in said


def test_an_error_of_robcert_is_none_of_the_network() -> None:
    with pytest.raises(RuntimeError) as theirs:
        benchmark([Net()], torch.rand(8, 5), 0.01)
    assert raised_by_network(theirs.value)
    assert "in test_adapt.py:" in network_fault(theirs.value).found
    with pytest.raises(TypeError) as own:
        benchmark(None, torch.rand(8, 5), 0.01)  # type: ignore[arg-type]
    assert not raised_by_network(own.value)
