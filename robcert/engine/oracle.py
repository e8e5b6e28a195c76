"""The oracle: the only way from an attack to the model, and the memory of the closest misclassified points.

Because it sees every forward, it notes at no extra forward which points fool the model and how far they are, so
no attack has to. What it notes is a candidate; the verifier decides.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robcert.attacks.objectives import margin
from robcert.attacks.protocol import Evaluation, Objective, Problem
from robcert.math.norms import per_image, vector_norm


class ModelOracle:
    """An oracle over the slots of a `Problem`.

    Attributes:
        nearest: (n, *shape), the closest misclassified point seen since the slot was filled; its distance is
            ``problem.best``.
        found_at: (n,) int64, the evaluation at which it was seen, counted from 1.
        evaluations: (n,) int64, evaluations since the slot was filled.
        zero_gradients, non_finite: (n,) int64, how many of them had a gradient of exactly zero, and how many had
            a logit or a gradient that is not finite.
        forwards, backwards: calls of the model, in batches.
        on_host: whether masks can be looked at without waiting for a device.
    """

    def __init__(self, module: nn.Module, problem: Problem, rounding: float) -> None:
        self.module = module
        self.problem = problem
        self.rounding = rounding
        self.on_host = problem.x.device.type == "cpu"
        self.nearest = problem.x.clone()
        self.found_at = torch.zeros_like(problem.y)
        self.evaluations = torch.zeros_like(problem.y)
        self.zero_gradients = torch.zeros_like(problem.y)
        self.non_finite = torch.zeros_like(problem.y)
        self.forwards = 0
        self.backwards = 0

    def value_and_grad(self, objective: Objective, x: Tensor) -> Evaluation:
        """See `robcert.attacks.protocol.Oracle`. A gradient entry that is not finite becomes 0 (and is counted)."""
        point = x.detach().requires_grad_(True)
        with torch.enable_grad():
            logits = self.module(point)
            value = objective(logits, self.problem.y)
            (gradient,) = torch.autograd.grad(value.sum(), point)
        self.forwards += 1
        self.backwards += 1
        logits = logits.detach()
        self._note(x.detach(), logits, value.detach() if objective is margin else margin(logits, self.problem.y))
        peak = vector_norm(gradient, "linf")
        finite = peak.isfinite()
        self.zero_gradients += peak == 0
        self.non_finite += ~(finite & logits.isfinite().all(dim=1))
        if not self._nowhere(~finite):
            gradient = torch.where(per_image(finite, gradient), gradient, torch.zeros_like(gradient))
        return Evaluation(logits=logits, value=value.detach(), gradient=gradient)

    @torch.no_grad()
    def logits(self, x: Tensor) -> Tensor:
        """See `robcert.attacks.protocol.Oracle`."""
        logits = self.module(x)
        self.forwards += 1
        self._note(x, logits, margin(logits, self.problem.y))
        return logits

    def forget(self, rows: Tensor, best: Tensor) -> None:
        """Begin anew in the given rows (n,) int64, where only points closer than ``best`` count."""
        self.problem.best[rows] = best
        for counter in (self.found_at, self.evaluations, self.zero_gradients, self.non_finite):
            counter[rows] = 0

    @torch.no_grad()
    def _note(self, x: Tensor, logits: Tensor, gap: Tensor) -> None:
        problem = self.problem
        self.evaluations += 1
        needed = logits.abs().amax(dim=1) * self.rounding
        fooled = gap > needed
        if self._nowhere(fooled):
            return
        distance = vector_norm(x - problem.x, problem.threat.norm)
        closer = fooled & (distance < problem.best)
        if self._nowhere(closer):
            return
        torch.where(closer, distance, problem.best, out=problem.best)
        torch.where(closer, self.evaluations, self.found_at, out=self.found_at)
        torch.where(per_image(closer, x), x, self.nearest, out=self.nearest)

    def _nowhere(self, mask: Tensor) -> bool:
        """Whether a masked write may be left out because the mask is False everywhere.

        Only a CPU may look: on an accelerator the host would wait for the device, and a captured step has no branch.
        """
        return self.on_host and not bool(mask.any())
