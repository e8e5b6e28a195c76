"""Intervals of a training are those of the certificate `ibp`, and the objective is its formula."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from robcert.bounds.linear.inputs import region
from robcert.bounds.linear.program import program
from robcert.certificates import Search, certificates
from robcert.certificates.margins import margins as certified_margins
from robcert.data import load_dataset
from robcert.errors import EvaluationError
from robcert.nn.cnn import cnn
from robcert.training import Recipe, fit
from robcert.training.context import TrainingContext
from robcert.training.intervals import Interval
from robcert.training.objectives.ibp import Ibp, margins
from robcert.training.precision import Mixed
from robcert.types import LoadedModel, Source

CPU = torch.device("cpu")
BOX = (0.0, 1.0)


def loaded(net: nn.Module) -> LoadedModel:
    source = Source("memory", "memory", "memory", "0" * 64)
    return LoadedModel(net.eval().requires_grad_(False), "net", (1, 8, 8), 10, BOX, source)


class Residual(nn.Module):
    """A block that adds what it read."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.inner(x)) + x


NETS: dict[str, Callable[[], nn.Module]] = {
    "strided": lambda: cnn((1, 8, 8), 10, channels=(3, 5), hidden=(7,), strided=True),
    "pooled": lambda: cnn((1, 8, 8), 10, channels=(3,), hidden=()),
    "smooth": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.Tanh(), nn.Linear(9, 10), nn.Sigmoid()),
    "averaged": lambda: nn.Sequential(nn.Conv2d(1, 10, 3), nn.LeakyReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    "residual": lambda: nn.Sequential(Residual(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 10)),
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("eps", [0.0, 0.03, 0.4])
def test_margins_are_those_of_the_certificate(name: str, eps: float) -> None:
    torch.manual_seed(3)
    net, data = NETS[name](), load_dataset("digits", n=12)
    model = loaded(net)
    around = region(data.x, torch.full((12,), eps, dtype=torch.float64), "linf", BOX)
    expected = certified_margins(program(model), around, data.y, "ibp").value
    found = margins(net, data.x, data.y, eps, BOX).double()
    others = torch.isfinite(expected)
    assert torch.equal(others.sum(1), torch.full((12,), 9))
    assert torch.allclose(found[others], expected[others], rtol=1e-4, atol=1e-5)
    assert bool((found[~others] == 0).all())


def test_a_linear_layer_has_the_margins_of_the_dual_norm() -> None:
    torch.manual_seed(4)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    layer = net[1]
    assert isinstance(layer, nn.Linear)
    layer.requires_grad_(False)
    x, y, eps = torch.full((2, 1, 8, 8), 0.5), torch.tensor([3, 8]), 0.2
    found = margins(net, x, y, eps, BOX)
    for i, label in enumerate(y.tolist()):
        for j in range(10):
            row = layer.weight[label] - layer.weight[j]
            least = row @ x[i].flatten() + layer.bias[label] - layer.bias[j] - eps * row.abs().sum()
            assert float(found[i, j]) == pytest.approx(float(least), abs=1e-6)


def test_the_interval_holds_every_image_of_the_ball() -> None:
    torch.manual_seed(5)
    net, x, eps = NETS["strided"](), load_dataset("digits", n=20).x, 0.1
    bounds = net(Interval(x - eps, x + eps))
    for _ in range(50):
        z = net(x + eps * (2 * torch.rand_like(x) - 1).sign())
        assert bool((bounds.lower <= z + 1e-5).all())
        assert bool((z - 1e-5 <= bounds.upper).all())


def test_margins_in_bfloat16_are_near() -> None:
    torch.manual_seed(6)
    net, data = NETS["strided"](), load_dataset("digits", n=30)
    exact = margins(net, data.x, data.y, 0.1, BOX)
    found = margins(Mixed(net), data.x, data.y, 0.1, BOX)
    assert found.dtype == torch.float32
    assert float((found - exact).abs().max()) < 0.05 * float(exact.abs().max())


def context(epochs: int, batches: int) -> TrainingContext:
    return TrainingContext(10, epochs, BOX, CPU, torch.Generator(), (1, 8, 8), batches)


def test_the_ball_grows_step_by_step_and_the_loss_is_its_formula() -> None:
    torch.manual_seed(7)
    net, data = NETS["strided"](), load_dataset("digits", n=16)
    table = Ibp(name="ibp", eps=0.2, kappa=0.4, warm_up=0.25, ramp=0.5)
    built = table.build(context(2, 4))
    found: list[float] = []
    for epoch in range(2):
        built.begin(net, epoch)
        found += [float(built.loss(net, data.x, data.y)) for _ in range(4)]
    for step, loss in enumerate(found):
        grown = min(1.0, max(0.0, (step / 8 - 0.25) / 0.5))
        kappa = 1 - 0.6 * grown
        worst = -margins(net, data.x, data.y, 0.2 * grown, BOX)
        parts = functional.cross_entropy(net(data.x), data.y), functional.cross_entropy(worst, data.y)
        assert loss == pytest.approx(float(kappa * parts[0] + (1 - kappa) * parts[1]), rel=1e-5)
    assert found == sorted(found), "a larger ball, a larger loss"
    assert [table.build(context(8, 4)).settled(epoch) for epoch in range(8)] == [False] * 6 + [True] * 2


def test_after_an_interruption_the_ball_is_what_it_was() -> None:
    torch.manual_seed(8)
    net, data = NETS["strided"](), load_dataset("digits", n=16)
    whole, again = (Ibp(name="ibp", eps=0.2, warm_up=0.0, ramp=1.0).build(context(2, 3)) for _ in range(2))
    whole.begin(net, 0)
    for _ in range(3):
        whole.loss(net, data.x, data.y)
    whole.begin(net, 1)
    again.begin(net, 1)
    assert float(whole.loss(net, data.x, data.y)) == float(again.loss(net, data.x, data.y))


@pytest.mark.parametrize(
    ("layer", "named"), [(nn.GELU(), "gelu"), (nn.BatchNorm2d(1), "batch_norm"), (nn.Dropout(), "dropout")]
)
def test_a_function_without_a_rule_is_refused_by_name(layer: nn.Module, named: str) -> None:
    net, data = nn.Sequential(layer, nn.Flatten(), nn.Linear(64, 10)), load_dataset("digits", n=2)
    with pytest.raises(EvaluationError, match=f"no interval of the function {named}"):
        margins(net, data.x, data.y, 0.1, BOX)


def test_a_network_trained_so_is_certified_by_the_same_intervals() -> None:
    train, test = load_dataset("digits", split="train"), load_dataset("digits", n=100)
    table = {
        "name": "certified",
        "epochs": 12,
        "batch": 64,
        "threads": 1,
        "architecture": {"name": "cnn", "options": {"channels": [8], "hidden": [32], "strided": True}},
        "objective": {"name": "ibp", "eps": 0.08, "ramp": 0.5},
        "optimiser": {"name": "adam", "learning_rate": 5e-3},
    }
    net = fit(Recipe.model_validate(table), train, test, device=CPU)
    found = certificates.get("ibp")(loaded(net), test.x, test.y, "linf", Search(eps=(0.05,)))
    right = found.prediction == test.y
    assert int(right.sum()) >= 90
    assert int((right & (found.radius >= 0.05)).sum()) >= 60
