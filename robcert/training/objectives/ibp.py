r"""Interval bound propagation: cross-entropy of the worst logits that intervals allow in a ball.

.. math:: \kappa \, \ell(z, y) + (1 - \kappa) \, \ell(\hat z, y), \qquad \hat z_y = 0, \quad
    \hat z_j = - \min_{\|x' - x\|_\infty \le \epsilon} \text{(the interval's bound of) } z_y(x') - z_j(x')

First the images alone are learnt, then eps grows from 0 and kappa falls from 1, both linearly, then they stay.

Source: S. Gowal et al., On the Effectiveness of Interval Bound Propagation for Training Verifiably Robust Models, 2018,
    eq. 11 and 12 and section 4.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from torch import Tensor, nn
from torch.nn import functional

from robcert.training.context import TrainingContext
from robcert.training.intervals import Interval
from robcert.training.objectives import Objective, ObjectiveTable, objective
from robcert.types import budget


@objective("ibp")
class Ibp(ObjectiveTable):
    """Intervals over an l-inf ball.

    Attributes:
        eps: radius of the ball, in the units of the data; more than is to be certified, which trains better.
        kappa: the share of the images' own loss at the end.
        warm_up: the share of the steps in which eps is 0 and kappa is 1.
        ramp: the share of the steps, after the warm-up, in which they go to their values.
    """

    name: Literal["ibp"]
    eps: Annotated[float, BeforeValidator(budget)]
    kappa: float = Field(default=0.5, ge=0, le=1)
    warm_up: float = Field(default=1 / 30, ge=0, le=1)
    ramp: float = Field(default=1 / 6, ge=0, le=1)

    def build(self, context: TrainingContext) -> Objective:
        """Return the objective for one training."""
        return IbpObjective(self, context)

    def grown(self, done: float) -> float:
        """Return how far eps and kappa are on their way, in [0, 1], when a share of the steps is done."""
        if done < self.warm_up + self.ramp:
            return max(0.0, done - self.warm_up) / self.ramp if self.ramp else 0.0
        return 1.0


class IbpObjective(Objective):
    """The loss of `Ibp`."""

    def __init__(self, table: Ibp, context: TrainingContext) -> None:
        self.table = table
        self.context = context
        self.step = 0

    def begin(self, net: nn.Module, epoch: int) -> None:
        """Count the steps from here."""
        del net
        self.step = epoch * self.context.batches

    def settled(self, epoch: int) -> bool:
        """Return whether the ball has grown to its radius when the epoch begins."""
        return self.table.grown(epoch / self.context.epochs) == 1.0

    def loss(self, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Return the mean loss of the batch, ()."""
        grown = self.table.grown(self.step / (self.context.epochs * self.context.batches))
        self.step += 1
        own = functional.cross_entropy(net(x), y)
        if not grown:
            return own
        worst = functional.cross_entropy(-margins(net, x, y, grown * self.table.eps, self.context.box), y)
        kappa = 1 - grown * (1 - self.table.kappa)
        return kappa * own + (1 - kappa) * worst


def margins(net: nn.Module, x: Tensor, y: Tensor, eps: float, box: tuple[float, float]) -> Tensor:
    r"""Return lower bounds of :math:`z_y - z_j` over an l-inf ball inside the box, from intervals.

    Args:
        net: the network; it is called with an `Interval`.
        x: (n, *shape), inside the box.
        y: (n,) int64.
        eps: the radius.
        box: the smallest and the largest value of an entry.

    Returns:
        (n, classes), 0 at j = y.

    Raises:
        EvaluationError: the network calls a function that has no rule.
    """
    return net(Interval((x - eps).clamp_min(box[0]), (x + eps).clamp_max(box[1]))).margins(y)
