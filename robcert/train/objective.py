"""What is minimised: one small class an objective, made from its table in the recipe."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

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
    input_shape: tuple[int, ...]


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
        self.eps = _grown(self.table, epoch, self.setting)

    def loss(self, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """The mean cross-entropy of the perturbed batch."""
        x = _perturb(net, x, y, self.table, self.eps, self.setting)
        return functional.cross_entropy(net(x), y, label_smoothing=self.table.label_smoothing)


class L2NNNObjective:
    """The loss of L2-nonexpansive networks: first with the penalty on the weights, then with W'.

    With an adversary, L_a (and L_b, if the recipe says so) is that of distorted images: paper A's Model 4.

    Source: L2-Nonexpansive Neural Networks, section 2.4 and appendix A.1.
    """

    def __init__(self, table: tables.L2NNN, setting: Setting) -> None:
        self.table = table
        self.setting = setting
        self.strict = False
        self.eps = 0.0 if table.adversary is None else table.adversary.eps
        self.gap_loss = GapLoss(
            setting.num_classes,
            gamma=table.gamma,
            omega=table.omega,
            v=table.v,
            z=table.z,
            trainable_v=table.trainable_v,
        ).to(setting.device)

    def prepare(self, net: nn.Module) -> None:
        """Puts the parametrisation on every layer."""
        if self.table.regularise:
            constrain(net, strict=False, divide=self.table.divide, input_shape=self.setting.input_shape)

    def parameters(self) -> Iterable[nn.Parameter]:
        """The scales u_k of L_a, and v if it is trained."""
        return self.gap_loss.parameters()

    def begin(self, net: nn.Module, epoch: int) -> None:
        """Switches from the penalty to W', and sets the budget of the adversary."""
        self.strict = epoch >= self.table.switch_epoch
        set_strict(net, self.strict)
        if self.table.adversary is not None:
            self.eps = _grown(self.table.adversary, epoch, self.setting)

    def loss(self, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """L_a + gamma L_b + omega L_c, and before the switch the penalty L_W (0 without parametrisations)."""
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
        distorted = _perturb(net, x, y, adversary, self.eps, self.setting, scale=u)
        return self.gap_loss(net(x), y, distorted=net(distorted), distort_accuracy=adversary.terms == "ab")

    def finish(self, net: nn.Module) -> None:
        """Takes the parametrisation away; the weights are W'."""
        set_strict(net, True)
        fold(net)


def _grown(table: tables.Adversary, epoch: int, setting: Setting) -> float:
    """The budget of an epoch: it grows in equal steps over the warm-up."""
    grown = (epoch + 1) / max(table.warm_up * setting.epochs, 1)
    return table.eps * min(1.0, grown)


def _perturb(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    table: tables.Adversary,
    eps: float,
    setting: Setting,
    scale: Tensor | None = None,
) -> Tensor:
    """The images that the adversary of a recipe finds with the budget ``eps``."""
    return perturb(
        net,
        x,
        y,
        norm=table.norm,
        eps=eps,
        steps=table.steps,
        step=table.step * eps,
        box=setting.box,
        generator=setting.generator,
        scale=scale,
    )


def make_objective(table: tables.Objective, setting: Setting) -> Objective:
    """The objective that a recipe asks for."""
    if isinstance(table, tables.Adversarial):
        return AdversarialObjective(table, setting)
    if isinstance(table, tables.L2NNN):
        return L2NNNObjective(table, setting)
    return CrossEntropyObjective(table)
