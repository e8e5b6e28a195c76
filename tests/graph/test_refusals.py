"""What certificates do not understand is refused by name, without a traceback and without torch's own reports."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robcert.bounds.linear.program import program
from robcert.bounds.lipschitz.network_bound import graph_bound
from robcert.bounds.rounding.logits import logit_rounding
from robcert.errors import EvaluationError
from robcert.graph import cache
from robcert.network import from_module, load_model
from robcert.types import LoadedModel

Function = Callable[[Tensor], Tensor]


class Net(nn.Module):
    """A function with a factor that is no tensor."""

    def __init__(self, function: Function, factor: float = 1.0) -> None:
        super().__init__()
        self.function, self.factor = function, factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.function(x)


ANALYSES: dict[str, Callable[[LoadedModel], object]] = {
    "slopes": graph_bound, "linear bounds": program, "rounding": logit_rounding,
}  # fmt: skip

W = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))

ARGUMENTS: dict[str, tuple[Function, str]] = {
    "sum": (lambda x: x.unsqueeze(2).sum(2, dtype=torch.bfloat16).float(), "dtype=torch.bfloat16|in torch.bfloat16"),
    "mean": (lambda x: x.unsqueeze(2).mean(2, dtype=torch.float16).float(), "dtype=torch.float16|in torch.float16"),
    "softmax": (lambda x: x.softmax(1, dtype=torch.bfloat16).float(), "dtype=torch.bfloat16|softmax"),
    "log_softmax": (lambda x: x.log_softmax(1, dtype=torch.bfloat16).float(), "dtype=torch.bfloat16|softmax"),
    "vector_norm": (lambda x: torch.linalg.vector_norm(x.unsqueeze(2).bfloat16(), dim=2).float(), "bfloat16"),
    "addmm": (lambda x: torch.addmm(torch.ones(3), x, W, alpha=3), "alpha|factors"),
    "addmm, factor of the bias": (lambda x: torch.addmm(torch.ones(3), x, W, beta=3), "beta|factors"),
    "linear": (lambda x: F.linear(torch.ones(x.shape[0], 3), W, x), "bias"),
    "linear, as weight": (lambda x: F.linear(torch.ones(2, 4), x).t(), "weight"),
    "batch norm": (lambda x: F.batch_norm(x, torch.zeros(4), torch.ones(4), weight=x.abs().mean(0)), "images|mean"),
    "clamp": (lambda x: x.clamp(min=x.flip(1)), "min|bounds"),
    "embedding": (lambda x: F.linear(x, W.t().half().float() * x.mean(), None), "images|weight"),
}  # fmt: skip


NO_CONSTANT = ("vector_norm", "clamp")


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("analysis", ANALYSES)
def test_an_argument_that_is_not_accounted_for_is_named(name: str, analysis: str) -> None:
    function, said = ARGUMENTS[name]
    model = from_module(Net(function), (4,))
    if analysis == "slopes" and name in NO_CONSTANT:
        bounds = graph_bound(model).bounds.values()
        assert all(bound.reasons and not bound.finite for bound in bounds), "no finite constant is an answer too"
        return
    with pytest.raises(EvaluationError, match=said):
        ANALYSES[analysis](model)


def _while(x: Tensor) -> Tensor:
    while x.abs().max() > 1e-3:
        x = x / 2
    return x


DECIDES: dict[str, Function] = {
    "if": lambda x: x if x.max() > 1.5 else 2 * x,
    "while": _while,
    "item": lambda x: x * x.max().item(),
    "assert": lambda x: x if bool((x <= 1).all()) else 1 / 0,
    "chosen rows": lambda x: x[x[:, 0] > -1],
    "chosen entries": lambda x: x[x > -1].reshape(x.shape),
    "a loop over the images": lambda x: torch.stack([row * 2 if row.sum() > 0 else row for row in x]),
    "nonzero": lambda x: x + torch.nonzero(x).sum(),
    "numpy": lambda x: torch.as_tensor(x.detach().numpy() * 2),
    "a Python number of it": lambda x: x * float(x[0, 0]),
    "a list": lambda x: torch.tensor(x.tolist()),
    "unique": lambda x: x + torch.unique(x).numel(),
}  # fmt: skip


@pytest.mark.parametrize("name", DECIDES)
def test_a_forward_that_is_no_graph_is_refused_in_silence(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    model = from_module(Net(DECIDES[name]), (4,))
    logging.getLogger().setLevel(logging.WARNING)
    for analyse in ANALYSES.values():
        with pytest.raises(EvaluationError) as refused:
            analyse(model)
        assert "defect" not in refused.value.found
        assert refused.value.found
    out, err = capfd.readouterr()
    assert (out, err) == ("", ""), "torch's report of the export is for the one who reads the error"


@pytest.mark.parametrize("place", ["a number", "a number in a list", "a buffer that is written through"])
def test_bounds_are_those_of_the_network_as_it_is_now(place: str) -> None:
    factors = [1.0]
    scale = torch.ones(1)
    net = Net((lambda x: x * factors[0]) if place == "a number in a list" else lambda x: x * 1.0)
    net.register_buffer("scale", scale)
    if place == "a buffer that is written through":
        net.function = lambda x: x * net.scale
    model = from_module(net, (4,))
    before = [graph_bound(model).bounds["l2"].whole, logit_rounding(model).size]
    assert program(model).logits
    module = model.module
    if place == "a number":
        module.factor = 100.0  # type: ignore[assignment]
    elif place == "a number in a list":
        factors[0] = 100.0
    else:
        net.scale.data.fill_(100.0)  # type: ignore[union-attr]
        module.scale.data.fill_(100.0)  # type: ignore[union-attr]
    after = [graph_bound(model).bounds["l2"].whole, logit_rounding(model).size]
    assert after == pytest.approx([100 * b for b in before], rel=1e-6)


def test_two_draws_that_happen_to_be_the_same_are_random_all_the_same() -> None:
    """Dropout of one entry is the same in half of all calls."""
    net = Net(lambda x: F.pad(F.dropout(x, 0.5, training=True), (0, 1)))
    said: set[str] = set()
    for seed in range(6):
        torch.manual_seed(seed)
        with pytest.raises(EvaluationError) as refused:
            graph_bound(net, (1,))
        said.add(refused.value.found)
    assert said <= {
        "Net is random: it answers differently to the same image",
        "dropout in layer dropout: it draws at random",
    }, said


def test_without_settings_in_the_fingerprint_a_bound_would_be_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    def tensors_alone(model: LoadedModel) -> tuple[object, ...]:
        return tuple((name, tensor._version) for name, tensor in model.module.state_dict().items())

    monkeypatch.setattr(cache, "fingerprint", tensors_alone)
    model = from_module(Net(lambda x: x * 1.0), (4,))
    before = graph_bound(model).bounds["l2"].whole
    model.module.factor = 100.0  # type: ignore[assignment]
    assert graph_bound(model).bounds["l2"].whole == before, "else the test above tests nothing"


class OneImage(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.shape[0] > 1 else x * 3


class SevenImages(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.shape[0] == 7 else x * 3


class TimesTheirNumber(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.shape[0]


class OnceAnImage(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        for _ in range(x.shape[0]):
            x = x * 1.5
        return x


@pytest.mark.parametrize("kind", [OneImage, SevenImages, TimesTheirNumber, OnceAnImage])
def test_torchscript_that_asks_for_the_number_of_images_is_refused(kind: type[nn.Module], tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(kind()), str(tmp_path / "net.pt"))
    model = load_model(tmp_path / "net.pt", input_shape=(4,))
    for analyse in ANALYSES.values():
        with pytest.raises(EvaluationError, match=r"number of images|has no graph"):
            analyse(model)
