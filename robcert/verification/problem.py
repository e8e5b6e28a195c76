r"""The boxes of a property, and the networks that turn its questions into those that attacks and bounds answer.

For a case with constraints :math:`a_k y \le b_k` let :math:`m(x) = \max_k (a_k y(x) - b_k)`. An input is a
counterexample where m is at most 0, and the case has none where m is above 0 everywhere in its box.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from robcert.types import LoadedModel
from robcert.verification import Constraint, Property, Region
from robcert.verification.outputs import Head, answered

_NEVER = Constraint((), 1.0)
"""0 <= 1: holds everywhere."""


@dataclass(frozen=True)
class Box:
    """The cases of a property that share a box of inputs.

    Attributes:
        low: (*input_shape) float64, the smallest value of each input.
        high: the largest.
        cases: each is one way to a counterexample.
    """

    low: Tensor
    high: Tensor
    cases: tuple[Region, ...]

    @property
    def inner(self) -> tuple[Tensor, Tensor]:
        """Return the ends of the box as float32 numbers inside it: the inputs that are tried."""
        return inner(self.low, self.high)

    @property
    def outer(self) -> tuple[Tensor, Tensor]:
        """Return float64 ends between which every float32 input lies, also one that was rounded from the box."""
        slack = 2.0**-24 * torch.maximum(self.low.abs(), self.high.abs())
        return self.low - slack, self.high + slack


def boxes(prop: Property, shape: tuple[int, ...], *, channels_last: bool = False) -> list[Box]:
    """Return the boxes of a property, with the inputs in the order of the network.

    Args:
        prop: the property.
        shape: of one input, channels first.
        channels_last: whether the file has its channels at the end.
    """
    found: dict[tuple[tuple[float, ...], tuple[float, ...]], list[Region]] = {}
    for region in prop.regions:
        found.setdefault((region.low, region.high), []).append(region)
    order = (*shape[1:], shape[0]) if channels_last else shape

    def arranged(values: tuple[float, ...]) -> Tensor:
        tensor = torch.tensor(values, dtype=torch.float64).reshape(order)
        return tensor.movedim(-1, 0).contiguous() if channels_last else tensor

    return [Box(arranged(low), arranged(high), tuple(cases)) for (low, high), cases in found.items()]


def inner(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return the float32 numbers nearest to the ends, between them (the nearest at all where none is)."""
    low32, high32 = low.float(), high.float()
    inner_low = torch.where(low32.double() < low, torch.nextafter(low32, torch.full_like(low32, math.inf)), low32)
    inner_high = torch.where(
        high32.double() > high, torch.nextafter(high32, torch.full_like(high32, -math.inf)), high32
    )
    empty = inner_low > inner_high
    return torch.where(empty, low32, inner_low), torch.where(empty, low32, inner_high)


def holds(region: Region, outputs: Tensor) -> Tensor:
    """Return whether all constraints hold, per row of outputs (n, outputs), in float64: (n,) bool."""
    found = torch.ones(len(outputs), dtype=torch.bool, device=outputs.device)
    for constraint in region.constraints:
        a, b = coefficients([constraint], outputs.shape[1])
        value = outputs.double() @ a[0].to(outputs.device) - float(b[0])
        found &= value < 0 if constraint.strict else value <= 0
    return found


def coefficients(constraints: list[Constraint], outputs: int) -> tuple[Tensor, Tensor]:
    """Return constraints as a y <= b: a (k, outputs) and b (k,), float64."""
    a = torch.zeros(len(constraints), outputs, dtype=torch.float64)
    for row, constraint in enumerate(constraints):
        for index, factor in constraint.coefficients:
            a[row, index] = factor
    return a, torch.tensor([constraint.bound for constraint in constraints], dtype=torch.float64)


def _padded(cases: tuple[Region, ...], outputs: int) -> tuple[Tensor, Tensor]:
    """The constraints of all cases, as many of each: a (most, cases, outputs) and b (most, cases)."""
    rows = [list(case.constraints) or [_NEVER] for case in cases]
    most = max(map(len, rows))
    pairs = [coefficients([*row, *[row[-1]] * (most - len(row))], outputs) for row in rows]
    return torch.stack([a for a, _ in pairs], 1), torch.stack([b for _, b in pairs], 1)


class Violation(nn.Module):
    """A classifier that answers wrongly where a property has a counterexample.

    Its input u lies in [-1, 1], 0 is the centre of the box, and the label is 0: so a counterexample is an adversarial
    example at l-infinity distance at most 1.

    Args:
        network: (n, *shape) -> logits.
        head: what makes the outputs of the logits.
        box: of the inputs, with its cases.
        outputs: their number.
    """

    def __init__(self, network: nn.Module, head: Head, box: Box, outputs: int) -> None:
        super().__init__()
        low, high = box.inner
        a, b = _padded(box.cases, outputs)
        strict = [any(c.strict for c in case.constraints) for case in box.cases]
        tiny = torch.finfo(torch.float32).tiny
        self.network, self.zero = network, tiny
        self.head: Head = head
        self.low: Tensor
        self.high: Tensor
        self.centre: Tensor
        self.reach: Tensor
        self.a: Tensor
        self.b: Tensor
        self.shift: Tensor
        for name, value in {
            "low": low,
            "high": high,
            "centre": (low.double() + high.double()).float() / 2,
            "reach": ((high.double() - low.double()) / 2).float(),
            "a": a.flatten(0, 1),
            "b": b,
            "shift": torch.tensor([0.0 if one else 2 * tiny for one in strict]),
        }.items():
            self.register_buffer(name, value)

    def inputs(self, u: Tensor) -> Tensor:
        """Return the inputs of the network, inside the box: (n, *shape) -> (n, *shape)."""
        return torch.clamp(torch.addcmul(self.centre, self.reach, u), self.low, self.high)

    def forward(self, u: Tensor) -> Tensor:
        """Return (n, 1 + cases): an entry behind the first is the largest where its case is fulfilled."""
        x = torch.addcmul(self.centre, self.reach, u)
        # An entry that rounding took out of the box comes back, and has a gradient all the same.
        x = x + (torch.clamp(x, self.low, self.high) - x).detach()
        outputs = answered(self.head, self.network(x)).double()
        least = (self.b - (outputs @ self.a.T).unflatten(1, self.b.shape)).amin(1).float() + self.shift
        return torch.cat([torch.full_like(least[:, :1], self.zero), least], 1)


class Largest(nn.Module):
    """m of every case, with ReLU alone: max(p, q) = p + ReLU(q - p), so that branch and bound can split it.

    The numbers are rounded to float32 such that m is not above what it is; `exact` says whether that is possible.
    """

    def __init__(self, network: nn.Module, cases: tuple[Region, ...], outputs: int) -> None:
        super().__init__()
        self.network = network
        a, b = _padded(cases, outputs)
        b32 = b.float()
        b32 = torch.where(b32.double() < b, torch.nextafter(b32, torch.full_like(b32, math.inf)), b32)
        self.layers = nn.ModuleList()
        for rows, bounds in zip(a.float(), b32, strict=True):
            layer = nn.Linear(outputs, len(rows))
            layer.weight = nn.Parameter(rows, requires_grad=False)
            layer.bias = nn.Parameter(-bounds, requires_grad=False)
            self.layers.append(layer)

    @staticmethod
    def exact(cases: tuple[Region, ...], outputs: int) -> bool:
        """Return whether all coefficients are float32 numbers."""
        a, _ = _padded(cases, outputs)
        return torch.equal(a.float().double(), a)

    def forward(self, x: Tensor) -> Tensor:
        """(n, *shape) -> (n, cases)."""
        y = self.network(x)
        found = self.layers[0](y)
        for layer in list(self.layers)[1:]:
            found = found + torch.relu(layer(y) - found)
        return found


def largest_of(model: LoadedModel, cases: tuple[Region, ...]) -> LoadedModel:
    """Return the network that answers with m of every case."""
    device = next((p.device for p in model.module.parameters()), torch.device("cpu"))
    module = Largest(model.module, cases, model.num_classes).to(device).eval()
    return replace(model, module=module, num_classes=len(cases))
