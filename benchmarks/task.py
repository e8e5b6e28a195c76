"""What is attacked: a small convolutional network on MNIST (or on enlarged digits), trained briefly."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robcert.accel.precision import Lowered
from robcert.data import load_dataset
from robcert.errors import EvaluationError
from robcert.network.load import from_module
from robcert.nn.cnn import cnn
from robcert.types import Dataset, LoadedModel

SHAPE = (1, 28, 28)


class Counted(nn.Module):
    """Passes every call on, counts those that record a graph, and clocks what lies between two of them.

    With a ``beside`` it runs that on the same batch before each such call and takes its time out: step by step,
    the attack and the bare loop then meet the same machine, however busy others keep it, and the same values. (A
    network takes a few percent less time for clean MNIST images, whose background is constant: ReLU and
    max-pooling branch on values.)

    Attributes:
        differentiated: calls that record a graph, which is to say gradient steps.
        steps: seconds from one such call to the next, without ``beside``.
        besides: seconds of each run of ``beside``.
    """

    def __init__(self, inner: nn.Module, beside: Callable[[Tensor], object] | None = None) -> None:
        super().__init__()
        self.inner = inner
        self.beside = beside
        self.clock: Callable[[], float] = time.perf_counter
        self.differentiated = 0
        self.steps: list[float] = []
        self.besides: list[float] = []
        self._since: float | None = None

    def forget(self) -> None:
        """Begin a new measurement."""
        self.differentiated, self._since = 0, None
        self.steps, self.besides = [], []

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            self._tick(x.detach())
        return self.inner(x)

    def also(self, other: nn.Module | None) -> nn.Module | None:
        """Another form of the network, whose gradient steps count here too."""
        if other is None:
            return None

        def count(module: nn.Module, given: object) -> None:
            self.differentiated += torch.is_grad_enabled()

        watched = nn.Sequential(other)
        watched.register_forward_pre_hook(count)
        watched.margin_error = getattr(other, "margin_error", 0.0)
        return watched

    def _tick(self, x: Tensor) -> None:
        self.differentiated += 1
        now = self.clock()
        if self._since is not None:
            self.steps.append(now - self._since)
        if self.beside is not None:
            self.beside(x)
        self._since = self.clock()
        self.besides.append(self._since - now)


@dataclass(frozen=True)
class Task:
    """A trained network and images that it classifies clearly, so that a tiny eps breaks none of them.

    ``layout`` is the form of the network that robcert searches (`robcert.accel.layout`), ``search`` its bfloat16 copy
    (`robcert.accel.precision`), or None.
    """

    data: str
    model: LoadedModel
    parameters: int
    accuracy: float
    x: Tensor
    y: Tensor
    layout: nn.Module | None = None
    search: Lowered | None = None

    def counted(self, unfrozen: bool = False, beside: Callable[[Tensor], object] | None = None) -> Counted:
        """The network behind a counter; unfrozen: a copy whose weights require gradients."""
        module = self.model.module
        if unfrozen:
            module = copy.deepcopy(module).requires_grad_(True)
        return Counted(module, beside).eval()

    def loaded(self, module: nn.Module) -> LoadedModel:
        """The model that robcert's engine takes, around the given module."""
        return replace(self.model, module=module)


def make_task(batch: int, quick: bool) -> Task:
    """Read the data, train, choose the images. Nothing is written to disk."""
    torch.manual_seed(0)
    train, test, name = _data(quick)
    net = cnn(SHAPE, 10, channels=(32, 64), hidden=(160,))
    _train(net, train, epochs=1 if quick else 2)
    net.eval()
    with torch.no_grad():
        logits = torch.cat([net(part) for part in test.x.split(256)])
    right = logits.argmax(dim=1) == test.y
    top = logits.topk(2, dim=1).values
    clear = right & (top[:, 0] - top[:, 1] > 0.05 * logits.abs().amax(dim=1))
    chosen = clear.nonzero().flatten()[:batch]
    if len(chosen) < batch:
        raise SystemExit(f"only {len(chosen)} of {len(test)} images are classified clearly, {batch} are needed")
    return Task(
        data=name,
        model=from_module(net, SHAPE, 10, name="cnn-0.5M"),
        parameters=sum(p.numel() for p in net.parameters()),
        accuracy=float(right.float().mean()),
        x=test.x[chosen].contiguous(),
        y=test.y[chosen].contiguous(),
    )


def _data(quick: bool) -> tuple[Dataset, Dataset, str]:
    count = 1500 if quick else 15000
    try:
        train = load_dataset("mnist", split="train", n=count)
        return train, load_dataset("mnist", n=300 if quick else 1000), "MNIST"
    except EvaluationError:
        return _enlarged("train"), _enlarged("test"), "digits, enlarged from 8x8 to 28x28"


def _enlarged(split: str) -> Dataset:
    data = load_dataset("digits", split=split)
    x = F.interpolate(data.x, SHAPE[1:], mode="bilinear", align_corners=False).clamp(0, 1)
    # Digits are few: every training image three times, with noise, or a few epochs would not be enough.
    if split == "train":
        x = torch.cat([x] + [(x + 0.1 * torch.randn_like(x)).clamp(0, 1) for _ in range(2)])
    copies = len(x) // len(data)
    return replace(data, x=x, y=data.y.repeat(copies), index=torch.arange(len(x)))


def _train(net: nn.Module, data: Dataset, epochs: int, size: int = 64) -> None:
    steps = epochs * (len(data) // size)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(data))[: len(data) // size * size].split(size):
            optimizer.zero_grad()
            F.cross_entropy(net(data.x[rows]), data.y[rows]).backward()
            optimizer.step()
            schedule.step()
