"""The loss of L2-nonexpansive networks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import parametrize

from robcert.nn.loss import GapLoss
from robcert.nn.nonexpansive import constrain, fold, set_strict, weight_penalty
from robcert.training.adversary import Adversary
from robcert.training.context import TrainingContext
from robcert.training.objectives import Objective, ObjectiveTable, objective


class Distortion(Adversary):
    """The adversary of an L2-nonexpansive network, which raises L_a; L_c always sees the images themselves.

    Attributes:
        terms: which terms see the distorted images: "a" (L_a alone, paper A's Model 4) or "ab" (L_a and L_b).
    """

    terms: Literal["a", "ab"] = "a"


@objective("l2nnn")
class L2NNN(ObjectiveTable):
    """The loss of L2-nonexpansive networks (paper A, eq. 3-7).

    Attributes:
        gamma: weight of L_b (accuracy).
        omega: weight of L_c (confidence gaps).
        v: scale of the logits in L_b, and where the scales u_k of L_a begin.
        trainable_v: v is trained, like the u_k, from there.
        z: hardness of L_c.
        penalty: weight of L_W (eq. 7), until the switch.
        switch_epoch: the first epoch, from 0, that is trained with W' in place of the penalty.
        keep_penalty: the penalty stays after the switch (paper B's "weight regularization loss").
        divide: how W' is made: the "whole" matrix divided by sqrt(b(W)) (eq. 2), or "each" of its rows by its
            own divisor, which trains faster and to larger gaps (`robcert.nn.nonexpansive`).
        regularise: False: plain weights, without penalty and without W' (the first row of paper A's table 3); no
            gap is a guarantee then.
        adversary: distorts the images of L_a, or of L_a and L_b; None: no adversary.
    """

    name: Literal["l2nnn"]
    gamma: float = Field(default=1.0, ge=0)
    omega: float = Field(default=0.3, ge=0)
    v: float = Field(default=3.0, gt=0)
    trainable_v: bool = False
    z: float = Field(default=1.0, gt=0)
    penalty: float = Field(default=1.0, ge=0)
    switch_epoch: int = Field(default=0, ge=0)
    keep_penalty: bool = False
    divide: Literal["whole", "each"] = "whole"
    regularise: bool = True
    adversary: Distortion | None = None

    def build(self, context: TrainingContext) -> Objective:
        """Return the objective for one training."""
        return L2NNNObjective(self, context)

    def fault(self, epochs: int) -> str:
        """Return whether the switch to W' never comes."""
        if self.switch_epoch < epochs:
            return ""
        return (
            f"objective.switch_epoch is {self.switch_epoch}, epochs is {epochs}:"
            " without W' in the end the network is not nonexpansive"
        )

    @property
    def nonexpansive(self) -> bool:
        """Return whether every logit of a network trained so is nonexpansive in l2, if its layers allow it."""
        return self.regularise


class L2NNNObjective(Objective):
    """The loss of L2-nonexpansive networks: first with the penalty on the weights, then with W'.

    With an adversary, L_a (and L_b, if the recipe says so) is that of distorted images: paper A's Model 4.

    Source: L2-Nonexpansive Neural Networks, section 2.4 and appendix A.1.
    """

    def __init__(self, table: L2NNN, context: TrainingContext) -> None:
        self.table = table
        self.context = context
        self.strict = False
        self.eps = 0.0 if table.adversary is None else table.adversary.eps
        self.gap_loss = GapLoss(
            context.num_classes,
            gamma=table.gamma,
            omega=table.omega,
            v=table.v,
            z=table.z,
            trainable_v=table.trainable_v,
        ).to(context.device)

    def prepare(self, net: nn.Module) -> None:
        """Put the parametrisation on every layer."""
        if self.table.regularise:
            constrain(net, strict=False, divide=self.table.divide, input_shape=self.context.input_shape)

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return the scales u_k of L_a, and v if it is trained."""
        return self.gap_loss.parameters()

    def begin(self, net: nn.Module, epoch: int) -> None:
        """Switch from the penalty to W', and set the budget of the adversary."""
        self.strict = epoch >= self.table.switch_epoch
        set_strict(net, self.strict)
        if self.table.adversary is not None:
            self.eps = self.table.adversary.budget_of(epoch, self.context.epochs)

    def settled(self, epoch: int) -> bool:
        """Return whether W' is trained, with the whole budget of the adversary."""
        adversary = self.table.adversary
        grown = adversary is None or adversary.budget_of(epoch, self.context.epochs) == adversary.eps
        return grown and epoch >= self.table.switch_epoch

    def loss(self, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Return L_a + gamma L_b + omega L_c, and before the switch the penalty L_W (0 without parametrisations)."""
        # However often the network is called below, its weights are divided once.
        with parametrize.cached():
            loss = self._of_logits(net, x, y)
        free = self.strict and not self.table.keep_penalty
        return loss if free else loss + self.table.penalty * weight_penalty(net)

    def _of_logits(self, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        adversary = self.table.adversary
        if adversary is None:
            return self.gap_loss(net(x), y)
        # Without u the logits of a nonexpansive network are so close that every class has about the same
        # probability, and the adversary would not look for the nearest one.
        u = self.gap_loss.u.detach()
        distorted = adversary.perturbed(net, x, y, self.eps, self.context, scale=u)
        return self.gap_loss(net(x), y, distorted=net(distorted), distort_accuracy=adversary.terms == "ab")

    def finish(self, net: nn.Module) -> None:
        """Take the parametrisation away; the weights are W'."""
        set_strict(net, True)
        fold(net)
