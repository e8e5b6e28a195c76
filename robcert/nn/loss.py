"""The loss of L2-nonexpansive networks: find features, be accurate, be sure."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def log_others(logits: Tensor, labels: Tensor) -> Tensor:
    """log(1 - softmax(logits)_label) = logsumexp_{k != label} y_k - logsumexp_k y_k.

    Finite for all finite logits: no probability is ever formed, let alone subtracted from 1.

    Args:
        logits: (n, classes), at least two classes.
        labels: (n,) int64.

    Returns:
        (n,), negative; about minus the confidence gap of a confident right answer, about 0 for a wrong one.
    """
    label = functional.one_hot(labels, logits.shape[1]).bool()
    others = logits.masked_fill(label, -torch.inf)
    return torch.logsumexp(others, 1) - torch.logsumexp(logits, 1)


class GapLoss(nn.Module):
    """L = L_a + gamma L_b + omega L_c over the logits y_1 ... y_K.

    L_a = cross-entropy(softmax(u_1 y_1, ..., u_K y_K), label), with trainable u_k (eq. 4): the features
    that an ordinary network would find. L_b = cross-entropy(softmax(v y), label) (eq. 5): accuracy. L_c =
    average(log(1 - softmax(z y)_label)) / z (eq. 6): minus the average confidence gap, softly.

    Args:
        num_classes: K.
        gamma: weight of L_b.
        omega: weight of L_c.
        v: scale of L_b, and where the u_k begin.
        z: hardness of L_c; for large z it is minus the gap of right answers and 0 for wrong ones.

    Source: L2-Nonexpansive Neural Networks, section 2.4, eq. 3-6.
    """

    def __init__(
        self, num_classes: int, *, gamma: float = 1.0, omega: float = 0.3, v: float = 3.0, z: float = 1.0
    ) -> None:
        super().__init__()
        self.gamma = gamma
        self.omega = omega
        self.v = v
        self.z = z
        self.u = nn.Parameter(torch.full((num_classes,), float(v)))

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean loss over a batch.

        Args:
            logits: (n, classes).
            labels: (n,) int64.

        Returns:
            ().
        """
        features = functional.cross_entropy(self.u * logits, labels)
        accuracy = functional.cross_entropy(self.v * logits, labels)
        gap = log_others(self.z * logits, labels).mean() / self.z
        return features + self.gamma * accuracy + self.omega * gap
