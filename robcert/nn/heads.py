"""The last layer of a multi-L2NNN classifier."""

from __future__ import annotations

from torch import nn


class Heads(nn.Linear):
    """One single-output linear filter a class: K overlapping networks that share all but their last layer.

    Computes what `torch.nn.Linear` computes, but each row stands for itself: if it has l2 norm 1 or less,
    each logit is nonexpansive (the vector of them need not be), and the answer does not change within g(x)
    / 2, where g(x) is the difference between the largest and the second largest logit.

    Shapes: (n, features) -> (n, classes).

    Source: L2-Nonexpansive Neural Networks, section 2.4 and lemma 6.
    """
