"""The adversary of adversarial training: projected gradient descent, short and inside the batch."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor, nn
from torch.nn import functional

from robcert.training.context import TrainingContext
from robcert.training.tables import Table
from robcert.types import budget

# Keeps a direction of zeros a direction of zeros.
_TINY = 1e-12


class Adversary(Table):
    """The adversary of a batch: projected gradient descent from a random start.

    Attributes:
        norm: of the perturbation.
        eps: its budget, in the units of the data.
        steps: gradient steps for each batch.
        step: length of one of them, relative to eps.
        warm_up: the share of the epochs over which eps grows from 0 to its value.
    """

    norm: Literal["l2", "linf"]
    eps: Annotated[float, BeforeValidator(budget)]
    steps: int = Field(default=10, ge=1)
    step: float = Field(default=0.25, gt=0)
    warm_up: float = Field(default=0.0, ge=0, le=1)

    def budget_of(self, epoch: int, epochs: int) -> float:
        """Return the budget of an epoch, counted from 0: it grows in equal steps over the warm-up."""
        grown = (epoch + 1) / max(self.warm_up * epochs, 1)
        return self.eps * min(1.0, grown)

    def perturbed(
        self, net: nn.Module, x: Tensor, y: Tensor, eps: float, context: TrainingContext, scale: Tensor | None = None
    ) -> Tensor:
        """Return the images (n, *shape) that this adversary finds with the budget ``eps``; see `perturb`."""
        return perturb(
            net,
            x,
            y,
            norm=self.norm,
            eps=eps,
            steps=self.steps,
            step=self.step * eps,
            box=context.box,
            generator=context.generator,
            scale=scale,
        )


def norms(delta: Tensor) -> Tensor:
    """The l2 norm of each perturbation: (n, *shape) -> (n, 1, ...)."""
    return delta.flatten(1).norm(dim=1).view(-1, *[1] * (delta.ndim - 1))


def start(x: Tensor, norm: str, eps: float, generator: torch.Generator) -> Tensor:
    """A perturbation drawn uniformly from the ball of radius ``eps``.

    In l2 a Gaussian direction times eps u^(1/d), with u uniform in [0, 1] and d entries; in l-inf every entry
    uniform in [-eps, eps].

    Args:
        x: (n, *shape), for shape and dtype.
        norm: "l2" or "linf".
        eps: the radius.
        generator: a CPU generator, so that the draws do not depend on the device.

    Returns:
        (n, *shape).
    """
    if norm == "linf":
        return eps * (2 * torch.rand(x.shape, generator=generator) - 1).to(x)
    direction = torch.randn(x.shape, generator=generator)
    radius = torch.rand(len(x), *[1] * (x.ndim - 1), generator=generator) ** (1 / x[0].numel())
    return (eps * radius * direction / norms(direction).clamp_min(_TINY)).to(x)


def perturb(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    norm: str,
    eps: float,
    steps: int,
    step: float,
    box: tuple[float, float],
    generator: torch.Generator,
    scale: Tensor | None = None,
) -> Tensor:
    """Images of larger cross-entropy inside ball and box: random start, gradient steps, projection, clipping.

    x <- clip(x0 + project(x - x0 + step d)), where d is the gradient over its l2 norm, or its sign in l-inf.

    Args:
        net: the network; it is evaluated in eval mode, and left in the mode that it was in.
        x: (n, *shape).
        y: (n,) int64.
        norm: "l2" or "linf".
        eps: the radius of the ball.
        steps: how many gradient steps.
        step: the length of one.
        box: the smallest and the largest value of an entry.
        generator: draws the start.
        scale: (classes,), factors on the logits in the cross-entropy (the u_k of paper A, eq. 4); default: 1.

    Returns:
        (n, *shape), without history.

    Source: A. Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018,
    section 2.1.
    """
    training = net.training
    net.eval()
    adversarial = (x + start(x, norm, eps, generator)).clamp(*box)
    for _ in range(steps):
        adversarial.requires_grad_(True)
        logits = net(adversarial)
        loss = functional.cross_entropy(logits if scale is None else scale * logits, y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, adversarial)
        with torch.no_grad():
            if norm == "linf":
                delta = (adversarial + step * gradient.sign() - x).clamp(-eps, eps)
            else:
                delta = adversarial + step * gradient / norms(gradient).clamp_min(_TINY) - x
                delta = delta * (eps / norms(delta).clamp_min(_TINY)).clamp_max(1)
            # Clipping to the box moves every entry towards x, so the result is still inside the ball.
            adversarial = (x + delta).clamp(*box)
    net.train(training)
    return adversarial.detach()
