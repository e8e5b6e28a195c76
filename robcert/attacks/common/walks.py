"""Shared by attacks that search for the least perturbation: their starts, and the test for a wrong answer."""

from __future__ import annotations

import torch
from torch import Tensor

from robcert.attacks.protocol import Evaluation, Problem


def start_of(problem: Problem, share: float = 1.0) -> Tensor:
    """Return a perturbation of 0, and for restarts a random point of ``share`` times the largest ball."""
    eps = torch.full_like(problem.best, share * problem.threat.largest) * (problem.restart > 0)
    return problem.random_start(eps)


def fooled_at(evaluation: Evaluation, problem: Problem) -> Tensor:
    """Return (n,) bool: the answer is a success, whatever a search in low precision may be off by."""
    return problem.criterion.margin(evaluation.logits, problem.y) > evaluation.margin_error


def finite(delta: Tensor) -> Tensor:
    """Return the perturbation with 0 in entries that are not finite: where an answer was NaN, begin anew."""
    return delta.nan_to_num(0.0, 0.0, 0.0)
