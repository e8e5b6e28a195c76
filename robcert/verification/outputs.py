r"""What the outputs of a file are, beside the logits that robcert works with, and what bounds of logits say of them.

robcert strips a last softmax, and a property speaks of what the file answers. With p the softmax of the logits z,

.. math:: p_i = 1 / \sum_j e^{z_j - z_i}, \quad \log p_i = -\log \sum_j e^{z_j - z_i}, \quad
    p_i - p_j = p_j (e^{z_i - z_j} - 1),

which are monotone in differences of logits: ends of those give ends of the outputs. The executed outputs differ from
them by the rounding of one softmax of the executed logits: an exponential is at most 1 and has a relative error of
u (|z_i - max| + 8), so an entry of p is off by less than 64 (n + 1) u, and one of log p by 64 (n + 1 + |z|) u, where
|z| is the largest logit or difference of logits (the kernels are those that docs/soundness.md, section 6, assumes).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from robcert.errors import EvaluationError

Head = Literal["none", "Softmax", "LogSoftmax"]

_U = 2.0**-24
_SLACK = 2.0**-44
"""Relative: far above the float64 rounding of the few operations here."""


def head_of(operators: tuple[str, ...], where: str) -> Head:
    """The function between the logits and the outputs of a file.

    Raises:
        EvaluationError: something else than a softmax.
    """
    kept = [name for name in operators if name not in ("Identity", "Dropout")]
    match kept:
        case []:
            return "none"
        case ["Softmax" | "LogSoftmax" as name]:
            return name
        case _:
            raise EvaluationError(
                f"{where} ends in {', '.join(kept)}, and a property speaks of these outputs",
                f"Write the file without {kept[-1]}: properties of logits and of their softmax are answered.",
            )


def answered(head: Head, logits: Tensor) -> Tensor:
    """The outputs for logits (n, classes)."""
    match head:
        case "none":
            return logits
        case "Softmax":
            return logits.softmax(1)
        case "LogSoftmax":
            return logits.log_softmax(1)


@dataclass(frozen=True)
class OutputBounds:
    """Ends of the executed outputs in k boxes.

    Attributes:
        low: output -> (k,) float64.
        high: likewise.
        above: (i, j) -> a lower end of output i minus output j, (k,).
    """

    low: dict[int, Tensor]
    high: dict[int, Tensor]
    above: dict[tuple[int, int], Tensor]


def output_bounds(
    head: Head, logits: Tensor, slopes: Tensor, pairs: dict[int, Tensor], error: float, wanted: list[int]
) -> OutputBounds:
    """The bounds from logits at the centres of boxes.

    Args:
        head: what the outputs are.
        logits: (k, n) float64, at the centres.
        slopes: (k, n): how far each logit moves in each box.
        pairs: i -> (k, n): how far logit i minus logit j moves in each box.
        error: how far an executed logit is from that of ``logits``, if nothing moved.
        wanted: the outputs that are asked for; the keys of ``pairs``.
    """
    size = logits.abs()
    moved = slopes * (1 + _SLACK) + _SLACK * size + error
    low, high, lost = dict[int, Tensor](), dict[int, Tensor](), dict[int, Tensor]()
    apart = dict[tuple[int, int], Tensor]()
    unit = 64 * _U * (logits.shape[1] + 1)
    for i in wanted:
        away = logits - logits[:, i : i + 1]
        spread = pairs[i] * (1 + _SLACK) + _SLACK * (size + size[:, i : i + 1]) + 2 * error
        spread[:, i] = 0
        least, most = away - spread, away + spread  # of z_j - z_i
        apart |= {(i, j): -most[:, j] for j in wanted if j != i}  # z_i - z_j is at least that
        if head == "none":
            low[i], high[i], lost[i] = logits[:, i] - moved[:, i], logits[:, i] + moved[:, i], 0 * moved[:, i]
            continue
        low[i], high[i] = -most.logsumexp(1), -least.logsumexp(1)
        if head == "Softmax":
            low[i], high[i], lost[i] = low[i].exp(), high[i].exp(), torch.full_like(low[i], 2 * unit)
        else:
            reach = torch.maximum(torch.maximum(least.abs(), most.abs()), size + moved).amax(1)
            lost[i] = 2 * (unit + 64 * _U * reach)  # twice, for the rounding here, which is in float64
        low[i], high[i] = low[i] - lost[i], high[i] + lost[i]
    if head != "Softmax":
        return OutputBounds(low, high, {(i, j): value - lost[i] - lost[j] for (i, j), value in apart.items()})
    above = {(i, j): low[j].clamp_min(0) * torch.expm1(v.clamp(0, 600)) - 3 * unit for (i, j), v in apart.items()}
    return OutputBounds(low, high, {ij: torch.where(apart[ij] > 0, v, v - 2.0) for ij, v in above.items()})
