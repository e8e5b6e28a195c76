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
        trainable_v: v is trained like the u_k, and ``v`` is where it begins.

    Source: L2-Nonexpansive Neural Networks, section 2.4, eq. 3-6.
    """

    v: Tensor

    def __init__(
        self,
        num_classes: int,
        *,
        gamma: float = 1.0,
        omega: float = 0.3,
        v: float = 3.0,
        z: float = 1.0,
        trainable_v: bool = False,
    ) -> None:
        super().__init__()
        self.gamma = gamma
        self.omega = omega
        self.z = z
        self.u = nn.Parameter(torch.full((num_classes,), float(v)))
        if trainable_v:
            self.v = nn.Parameter(torch.tensor(float(v)))
        else:
            self.register_buffer("v", torch.tensor(float(v)))

    def features(self, logits: Tensor, labels: Tensor) -> Tensor:
        """L_a (eq. 4), the mean over a batch: (n, classes), (n,) -> ()."""
        return functional.cross_entropy(self.u * logits, labels)

    def accuracy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """L_b (eq. 5), likewise."""
        return functional.cross_entropy(self.v * logits, labels)

    def gap(self, logits: Tensor, labels: Tensor) -> Tensor:
        """L_c (eq. 6), likewise."""
        return log_others(self.z * logits, labels).mean() / self.z

    def forward(
        self, logits: Tensor, labels: Tensor, *, distorted: Tensor | None = None, distort_accuracy: bool = False
    ) -> Tensor:
        """The mean loss over a batch.

        Args:
            logits: (n, classes), of the images.
            labels: (n,) int64.
            distorted: the logits of the same images distorted by an adversary, for L_a.
            distort_accuracy: L_b takes them too. L_c never does: the gap that counts is the image's own.

        Returns:
            ().
        """
        other = logits if distorted is None else distorted
        features = self.features(other, labels)
        accuracy = self.accuracy(other if distort_accuracy else logits, labels)
        return features + self.gamma * accuracy + self.omega * self.gap(logits, labels)
