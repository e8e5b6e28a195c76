"""Classifiers with a sampled operator inside: does anything break an image inside its certified radius?"""

from __future__ import annotations

import warnings
from itertools import product

import torch
from torch import Tensor, nn

from robcert.certificates import certificates
from robcert.errors import RobcertError
from robcert.network import from_module
from robcert.threats.kind import norm_of
from robcert.types import BOUND_NORMS, BoundNorm, LoadedModel
from tests.soundness.sample_networks import Pair, SampleNetwork, images, sampled

PROOFS = [one for _, one in certificates.items() if one.closed_form and not one.probabilistic]
"""Every certificate that is registered and costs a forward or two an image: there are thousands of classifiers."""


class Classifier(nn.Module):
    """The results of an operator, and a linear layer of random weights."""

    def __init__(self, network: SampleNetwork, features: int) -> None:
        super().__init__()
        self.network = network
        self.head = nn.Linear(features, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.network(x))


def broken(pair: Pair) -> tuple[int, list[str]]:
    """How many images a classifier of this pair has certified, in all norms, and those that were broken."""
    torch.manual_seed(pair.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = sampled(pair)
        if found is None:
            return 0, []
        x = images(found.network, 8, pair.seed).float()
        net = Classifier(found.network, found.network(x.clone()).shape[1])
        try:
            model = from_module(net, found.network.shape, 4)
        except RobcertError:  # NaN somewhere in the box
            return 0, []
        certified, wrong = 0, list[str]()
        y = model.module(x.clone()).argmax(1)
        for norm, certify in product(BOUND_NORMS, PROOFS):
            try:
                radius = certify(model, x, y, norm).radius
            except RobcertError:
                continue
            certified += int((radius > 0).sum())
            if not bool((radius > 0).any()):
                continue
            for k in _attacked(model, x, y, radius, norm, pair.seed).nonzero().flatten().tolist():
                wrong.append(f"{pair.key}: image {k} inside {float(radius[k]):.4g} in {norm}")
        return certified, wrong


def _attacked(model: LoadedModel, x: Tensor, y: Tensor, radius: Tensor, norm: BoundNorm, seed: int) -> Tensor:
    """Which images have another answer inside their radius: random points, then descent on the gap, (n,) bool."""
    generator = torch.Generator().manual_seed(seed)
    eps = (radius * (1 - 1e-6)).clamp(min=0, max=1e6)
    size = eps.view(-1, *[1] * (x.dim() - 1))
    found = torch.zeros(len(x), dtype=torch.bool)
    for _ in range(4):
        delta = torch.randn(x.shape, generator=generator, dtype=torch.float64).sign() * size
        for _ in range(6):
            delta = norm_of(norm).project_in_box(delta, x.double(), eps, model.box)
            point = (x.double() + delta).float().requires_grad_()
            inside = (
                (point.detach().double() - x.double()).flatten(1).norm({"l1": 1, "l2": 2, "linf": torch.inf}[norm], 1)
            )
            logits = model.module(point * 1.0)
            found |= (logits.argmax(1) != y) & (inside < radius)
            rival = logits.scatter(1, y[:, None], -torch.inf).amax(1)
            margin = (logits.gather(1, y[:, None])[:, 0] - rival).sum()
            if not margin.requires_grad:
                break
            (way,) = torch.autograd.grad(margin, point, allow_unused=True)
            if way is None:
                break
            delta = delta - way.double().nan_to_num().sign() * size / 2
    return found
