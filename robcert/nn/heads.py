"""The last layers of a multi-L2NNN classifier: one network a class, overlapping in what comes before."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


class Heads(nn.Linear):
    """One single-output linear filter a class: K overlapping networks that share all but their last layer.

    Computes what `torch.nn.Linear` computes, but each row stands for itself: if it has l2 norm 1 or less,
    each logit is nonexpansive (the vector of them need not be), and the answer does not change within g(x)
    / 2, where g(x) is the difference between the largest and the second largest logit.

    A single L2NNN has a `torch.nn.Linear` in its place: the whole logit vector is nonexpansive, and the answer
    does not change within g(x) / sqrt(2), but large gaps are harder to reach.

    Shapes: (n, features) -> (n, classes).

    Source: L2-Nonexpansive Neural Networks, section 2.4, lemma 6 and lemma 1.
    """


class LabelStacks(nn.Module):
    """A stack of linear layers a class, with one output each: the K networks part earlier than with `Heads`.

    Each stack is nonexpansive, so each logit is, and the guarantee is g(x) / 2.

    Args:
        features: inputs, which all stacks read.
        num_classes: K.
        hidden: neurons of each layer of a stack before its last.
        activation: makes the nonlinearity behind each of them.
        widening: how many outputs the nonlinearity has for one input.

    Shapes: (n, features) -> (n, classes).

    Source: L2-Nonexpansive Neural Networks, section 2.4 and appendix A.3 (no modification is needed).
    """

    def __init__(
        self,
        features: int,
        num_classes: int,
        hidden: Sequence[int],
        activation: Callable[[], nn.Module],
        widening: int,
    ) -> None:
        super().__init__()
        self.stacks = nn.ModuleList(_stack(features, hidden, activation, widening) for _ in range(num_classes))

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        return torch.cat([stack(x) for stack in self.stacks], dim=1)


def _stack(width: int, hidden: Sequence[int], activation: Callable[[], nn.Module], widening: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for neurons in hidden:
        layers += [nn.Linear(width, neurons), activation()]
        width = widening * neurons
    return nn.Sequential(*layers, nn.Linear(width, 1))
