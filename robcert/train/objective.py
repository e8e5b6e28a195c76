"""What is minimised: one small class an objective, made from its table in the recipe."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from robcert.nn.loss import GapLoss
from robcert.nn.nonexpansive import constrain, fold, set_strict, weight_penalty
from robcert.train import recipe as tables
from robcert.train.adversary import perturb


@dataclass(frozen=True)
class Setting:
    """What an objective may know of the training around it."""

    num_classes: int
    epochs: int
    box: tuple[float, float]
    device: torch.device
    generator: torch.Generator


class Objective(Protocol):
    """The loss of a batch, and what it does to the network before, between and after the epochs."""

    def prepare(self, net: nn.Module) -> None:
        """Before the first epoch."""
        ...

    def parameters(self) -> Iterable[nn.Parameter]:
        """What is trained besides the network."""
        ...

    def begin(self, net: nn.Module, epoch: int) -> None:
        """Before each epoch, counted from 0."""
        ...

    def loss(self, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """The loss of the batch ``x`` (n, *shape), ``y`` (n,): ()."""
        ...

    def finish(self, net: nn.Module) -> None:
        """After the last epoch: leaves plain layers."""
        ...


class _Plain:
    """An objective that trains nothing but the network and leaves it as it is."""

    def prepare(self, net: nn.Module) -> None:
        del net

    def parameters(self) -> Iterable[nn.Parameter]:
        return ()

    def begin(self, net: nn.Module, epoch: int) -> None:
        del net, epoch

    def finish(self, net: nn.Module) -> None:
        del net


class CrossEntropyObjective(_Plain):
    """Cross-entropy with label smoothing."""

    def __init__(self, table: tables.CrossEntropy) -> None:
        self.table = table

    def loss(self, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """The mean cross-entropy of the batch."""
        return functional.cross_entropy(net(x), y, label_smoothing=self.table.label_smoothing)


class AdversarialObjective(_Plain):
    """Cross-entropy on adversarial examples in place of the images.

    Source: A. Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018, eq.
    2.1.
    """

    def __init__(self, table: tables.Adversarial, setting: Setting) -> None:
        self.table = table
        self.setting = setting
        self.eps = table.eps

    def begin(self, net: nn.Module, epoch: int) -> None:
        """Sets the budget of this epoch."""
        del net
        grown = (epoch + 1) / max(self.table.warm_up * self.setting.epochs, 1)
        self.eps = self.table.eps * min(1.0, grown)

    def loss(self, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """The mean cross-entropy of the perturbed batch."""
        x = perturb(
            net,
            x,
            y,
            norm=self.table.norm,
            eps=self.eps,
            steps=self.table.steps,
            step=self.table.step * self.eps,
            box=self.setting.box,
            generator=self.setting.generator,
        )
        return functional.cross_entropy(net(x), y, label_smoothing=self.table.label_smoothing)


class L2NNNObjective:
    """The loss of L2-nonexpansive networks: first with the penalty on the weights, then with W'.

    Source: L2-Nonexpansive Neural Networks, section 2.4 and appendix A.1.
    """

    def __init__(self, table: tables.L2NNN, setting: Setting) -> None:
        self.table = table
        self.strict = False
        self.gap_loss = GapLoss(setting.num_classes, gamma=table.gamma, omega=table.omega, v=table.v, z=table.z).to(
            setting.device
        )

    def prepare(self, net: nn.Module) -> None:
        """Puts the parametrisation on every layer."""
        constrain(net, strict=False)

    def parameters(self) -> Iterable[nn.Parameter]:
        """The scales u_k of L_a."""
        return self.gap_loss.parameters()

    def begin(self, net: nn.Module, epoch: int) -> None:
        """Switches from the penalty to W'."""
        self.strict = epoch >= self.table.switch_epoch
        set_strict(net, self.strict)

    def loss(self, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """L_a + gamma L_b + omega L_c, and before the switch the penalty L_W."""
        loss: Tensor = self.gap_loss(net(x), y)
        return loss if self.strict else loss + self.table.penalty * weight_penalty(net)

    def finish(self, net: nn.Module) -> None:
        """Takes the parametrisation away; the weights are W'."""
        set_strict(net, True)
        fold(net)


def make_objective(table: tables.Objective, setting: Setting) -> Objective:
    """The objective that a recipe asks for."""
    if isinstance(table, tables.Adversarial):
        return AdversarialObjective(table, setting)
    if isinstance(table, tables.L2NNN):
        return L2NNNObjective(table, setting)
    return CrossEntropyObjective(table)
