"""The gradients of a network over a data set, against the bound of its graph.

The mean of a norm over the data is the total variation of paper E, its maximum a lower bound of the Lipschitz constant
(eq. 2.3). The bound of the graph (`robcert.bounds.lipschitz.network_bound`) holds everywhere, so it is an upper bound
of both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robcert.bounds.lipschitz.network_bound import NetworkBound, lipschitz_bound
from robcert.errors import EvaluationError
from robcert.network.fold import copy_module
from robcert.network.graph_files import without_deprecations
from robcert.sensitivity.gradients import STATISTICS, measure
from robcert.types import BoundNorm, Dataset, LoadedModel

CHUNK = 128
_SLACK = {torch.float64: 1e-9, torch.float32: 1e-4}
"""How far rounding may lift a gradient, relative to it: sums of as many products as networks have."""


Part = Callable[[int, Callable[[], dict[str, Tensor]]], dict[str, Tensor]]


@dataclass(frozen=True)
class Upper:
    """The bound of the graph for one norm of the input, beside the largest value that was measured.

    Attributes:
        whole: of the logit vector, in the same norm; ``measured_whole`` is the largest operator norm of J.
        logit: of a single logit; ``measured_logit`` is the largest dual norm of a row of J.
        refused: why there is no bound (an op without a rule), or "".
    """

    whole: float
    measured_whole: float
    logit: float
    measured_logit: float
    refused: str = ""


@dataclass(frozen=True)
class Sensitivity:
    """The gradients of one network on a data set.

    Attributes:
        norm: of the threat.
        values: (n,) float64 on the CPU for every name in `STATISTICS`, and those that belong to the threat (see
            `robcert.sensitivity.gradients.measure`).
        upper: the bound of the graph.
        precision: "float64", or "float32" for a program whose types are fixed.
    """

    norm: BoundNorm
    values: dict[str, Tensor]
    upper: Upper
    precision: str

    def mean(self, name: str) -> float:
        """The average over the images: the total variation."""
        return float(self.values[name].mean())

    def largest(self, name: str) -> float:
        """The maximum over the images: a lower bound of the Lipschitz constant."""
        return float(self.values[name].max())

    @property
    def loss_dual(self) -> Tensor:
        """The dual norm of the gradient of the loss."""
        return self.values[{"l2": "loss-l2", "linf": "loss-l1", "l1": "loss-linf"}[self.norm]]


def sensitivity(
    model: LoadedModel,
    data: Dataset,
    norm: BoundNorm = "l2",
    advance: Callable[[float], None] = lambda _: None,
    part: Part = lambda _, make: make(),
    chunk: int = CHUNK,
    most: int | None = None,
) -> Sensitivity:
    """Measure every statistic at every image.

    Args:
        model: the network; it is evaluated in float64 where it can be.
        data: at least one image.
        norm: of the threat: gradients are measured in its dual norm too, and compared with the graph's bound for it.
        advance: is told how many images were measured since the last call.
        part: is given the position of the first image of a part and what measures the part; returns what was measured.
        chunk: images of a part.
        most: images measured at once, at most.

    Raises:
        EvaluationError: a gradient is not finite; or a gradient beyond the bound of the graph, which would be a
            defect of robcert.
    """
    module, dtype = double_precision(model)
    wanted = [*STATISTICS, "operator", "row-dual", "margin-dual", "loss", "gap", "label", "other"]
    parts: list[dict[str, Tensor]] = []
    for at in range(0, len(data), chunk):

        def one(at: int = at) -> dict[str, Tensor]:
            x, y = data.x[at : at + chunk].to(dtype), data.y[at : at + chunk]
            return {name: value.cpu() for name, value in measure(module, x, y, wanted, norm, most).items()}

        parts.append(part(at, one))
        advance(min(chunk, len(data) - at))
    bad = torch.cat([torch.stack([~part[name].isfinite() for name in STATISTICS]).any(dim=0) for part in parts])
    if bool(bad.any()):
        first = int(data.index[bad.to(data.index.device)][0])
        raise EvaluationError(
            f"{model.name} has gradients that are NaN or infinite at {int(bad.sum())} of {len(data)} images "
            f"(index {first})",
            "Look for a root or a norm at zero, a division by zero or an overflow in the network",
        )
    values = {name: torch.cat([part[name] for part in parts]) for name in wanted}
    values = {name: value if value.dtype == torch.int64 else value.double() for name, value in values.items()}
    upper = _against_the_graph(model, values, norm, _SLACK[dtype])
    return Sensitivity(norm, values, upper, str(dtype).removeprefix("torch."))


def double_precision(model: LoadedModel) -> tuple[nn.Module, torch.dtype]:
    """A copy of the network in float64; the network itself, with float32, where its types are fixed."""
    try:
        with without_deprecations():
            module = copy_module(model.module).double()
        blank = torch.zeros(1, *model.input_shape, dtype=torch.float64)
        with torch.no_grad():
            if module(blank.to(_device(model))).dtype == torch.float64:
                return module, torch.float64
    except Exception:  # a program that was exported in float32 fails in many ways
        return model.module, torch.float32
    return model.module, torch.float32


def _device(model: LoadedModel) -> torch.device:
    state = [*model.module.parameters(), *model.module.buffers()]
    return state[0].device if state else torch.device("cpu")


def _against_the_graph(model: LoadedModel, values: dict[str, Tensor], norm: BoundNorm, slack: float) -> Upper:
    whole, single = float(values["operator"].max()), float(values["row-dual"].max())
    try:
        bound = lipschitz_bound(model, norm)
    except EvaluationError as error:
        return Upper(math.inf, whole, math.inf, single, error.found)
    logit = float(bound.logits.max())
    pair = (values["margin-dual"] * (1 - slack) - _pairs(bound, values["label"], values["other"])).max()
    if whole * (1 - slack) > bound.whole or single * (1 - slack) > logit or float(pair) > 0:
        raise EvaluationError(
            f"{model.name}: a gradient exceeds the {norm} bound of the graph (J {whole:.9g} against {bound.whole:.9g}, "
            f"a logit {single:.9g} against {logit:.9g}, a margin by {float(pair):.3g})",
            "This is a defect of robcert: please report it with the model",
        )
    return Upper(bound.whole, whole, logit, single)


def _pairs(bound: NetworkBound, label: Tensor, other: Tensor) -> Tensor:
    """The constant of z_label - z_other of every image: (n,)."""
    constants = torch.empty(len(label), dtype=torch.float64)
    for one in label.unique().tolist():
        rows = label == one
        constants[rows] = bound.pair_row(one)[other[rows]]
    return constants
