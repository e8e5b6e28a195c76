"""Changes that change nothing: the network says the same in another way, so every image keeps its verdict.

A change is made of float32 numbers, so it rounds (adding 100 costs up to 8e-6 a logit), and a search follows
gradients that differ in the last bits. An image may therefore change sides where its verdict hangs on that. Every such
image is listed (as a property of the test, in the junit report), and each must be explained by rounding: the float64
margin of the witness that one network found lies below the stated rounding bound of the other, which therefore refuses
it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from toys import broken, run_leg

from robcert.bracket import Bracket
from robcert.data import load_dataset
from robcert.network import from_module, load_model
from robcert.network.batching import logits_of
from robcert.types import LoadedModel, Threat, ThreatNorm

EPS: dict[ThreatNorm, float] = {"l2": 0.5, "linf": 0.08}


class Told(nn.Module):
    """A network whose answer is rewritten, and whose input comes in other units."""

    def __init__(self, net: nn.Module, say: Callable[[Tensor], Tensor], unit: float = 1.0) -> None:
        super().__init__()
        self.net, self.say, self.unit = net, say, unit

    def forward(self, x: Tensor) -> Tensor:
        return self.say(self.net(x / self.unit if self.unit != 1 else x))


@dataclass(frozen=True)
class Change:
    """How logits are rewritten, by what the margin is multiplied, the unit of the input, and classes that are added."""

    say: Callable[[Tensor], Tensor]
    scale: float = 1.0
    unit: float = 1.0
    more: int = 0


def _far(logits: Tensor) -> Tensor:
    return torch.cat([logits, torch.full_like(logits[:, :1], -1000.0)], dim=1)


CHANGES = {
    "plus 100": Change(lambda z: z + 100),
    "minus 100": Change(lambda z: z - 100),
    "times 1e-6": Change(lambda z: z * 1e-6, scale=1e-6),
    "times 1e6": Change(lambda z: z * 1e6, scale=1e6),
    "range 0 to 255": Change(lambda z: z, unit=255.0),
    "one class far below": Change(_far, more=1),
}
SETTINGS = [
    ("digits-l2nnn", "grey"),
    ("digits-l2nnn", "binary"),
    ("digits-plain", "binary"),
    ("digits-plain", "three"),
]


def setting(name: str, kind: str, n: int) -> tuple[nn.Module, Tensor, Tensor, int]:
    """A network and images that it gets right."""
    net, data = load_model(name).module, load_dataset("digits", n=3 * n if kind == "three" else n)
    x, classes = data.x, 10
    if kind == "binary":
        x = x.round()
        assert set(x.unique().tolist()) == {0.0, 1.0}
    if kind == "three":
        net, classes = Told(net, lambda z: z[:, :3]), 3
        x = x[data.y < 3]
    return net, x, logits_of(net, x, 128).argmax(dim=1), classes


def margins(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """max over j of z_j - z_y in float64: (n,)."""
    with torch.no_grad():
        logits = copy.deepcopy(net).double()(x.double())
    return logits.scatter(1, y[:, None], float("-inf")).amax(1) - logits.gather(1, y[:, None])[:, 0]


def explain(
    k: int, found: Bracket, finder: LoadedModel, other: LoadedModel, change: tuple[float, float], y: Tensor
) -> bool:
    """Whether the witness of image k is one that ``other`` must refuse by its rounding bound."""
    unit, scale = change  # of the other, relative to the finder
    witness = found.points([k])
    gap = float(margins(finder.module, witness, y[k : k + 1])) * scale
    logits = logits_of(other.module, witness * unit, 8)
    return gap <= 2 * other.rounding * float(logits.abs().max())


def check(name: str, kind: str, norm: ThreatNorm, attack: str, n: int, iterations: int, report: list[str]) -> None:
    net, x, y, classes = setting(name, kind, n)
    base = from_module(net, input_shape=(1, 8, 8), num_classes=classes)
    eps = EPS[norm]
    options = {"iterations": iterations} | ({} if attack != "cw" or iterations > 50 else {"search_steps": 4})
    before = run_leg(base, x, y, Threat(norm, (eps,)), attack, **options)[0]  # type: ignore[arg-type]
    verdicts = broken(before, eps)
    assert 0 < sum(verdicts) < len(y), "the comparison means something"
    for title, change in CHANGES.items():
        box = (0.0, change.unit)
        told = from_module(
            Told(net, change.say, change.unit), input_shape=(1, 8, 8), num_classes=classes + change.more, box=box
        )
        scaled, budget = x * change.unit, eps * change.unit
        after = run_leg(told, scaled, y, Threat(norm, (budget,), box), attack, **options)[0]  # type: ignore[arg-type]
        changed = [k for k, was in enumerate(verdicts) if was != broken(after, budget)[k]]
        unexplained: list[int] = []
        for k in changed:
            if verdicts[k]:
                rounding = explain(k, before, base, told, (change.unit, change.scale), y)
            else:
                rounding = explain(k, after, told, base, (1 / change.unit, 1 / change.scale), y)
            why = "rounding" if rounding else "unexplained"
            report.append(f"{name} {kind} {norm} {attack}, {title}: image {k} changed sides: {why}")
            if not rounding:
                unexplained.append(k)
        assert not unexplained, report
        assert len(changed) <= 0.05 * len(y), report


@pytest.mark.parametrize("attack", ["cw", "pgd"])
@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize(("name", "kind"), SETTINGS)
def test_changes_that_change_nothing(
    name: str, kind: str, norm: ThreatNorm, attack: str, record_property: Callable[[str, object], None]
) -> None:
    report: list[str] = []
    check(name, kind, norm, attack, n=30, iterations=50 if (attack, norm) == ("cw", "linf") else 20, report=report)
    record_property("changed sides", "\n".join(report))


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["cw", "pgd"])
@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("kind", ["grey", "binary", "three"])
@pytest.mark.parametrize("name", ["digits-plain", "digits-at", "digits-l2nnn"])
def test_changes_that_change_nothing_on_more_images(
    name: str, kind: str, norm: ThreatNorm, attack: str, record_property: Callable[[str, object], None]
) -> None:
    report: list[str] = []
    check(name, kind, norm, attack, n=160, iterations=200, report=report)
    record_property("changed sides", "\n".join(report))
