"""Random networks of everything that has a rule: branches, joins, pools, shared layers."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from robcert.nn.activations import ScaledSigmoid, TwoSided, TwoSidedReLU
from robcert.nn.normalisation import LargestScaleNorm
from robcert.nn.pooling import NormPool2d
from robcert.nn.split import ConvexResidual, Residual

Block = Callable[[int, int, int, random.Random], "nn.Module | None"]


class Do(nn.Module):
    """A function of a tensor, and of modules that it uses."""

    def __init__(self, function: Callable[..., Tensor], *modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.modules_ = nn.ModuleList(modules)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.modules_)


def conv(c: int, h: int, w: int, r: random.Random) -> nn.Module | None:
    kernel, dilation = r.choice([1, 2, 3, 3]), r.choice([1, 1, 2])
    mode = r.choice(["zeros", "zeros", "circular", "reflect", "replicate"])
    padding = r.choice([0, 1]) if kernel > 1 else 0
    reach = dilation * (kernel - 1) + 1
    if min(h, w) + 2 * padding < reach or (mode == "reflect" and padding >= min(h, w)):
        return None
    groups = r.choice([g for g in (1, 1, 2) if c % g == 0])
    out = groups * r.randint(1, 4)
    return nn.Conv2d(c, out, kernel, r.choice([1, 1, 2]), padding, dilation, groups, padding_mode=mode)


def conv_transpose(c: int, h: int, w: int, r: random.Random) -> nn.Module | None:
    if max(h, w) > 5:
        return None
    return nn.ConvTranspose2d(c, r.randint(1, 3), r.choice([2, 3]), r.choice([1, 2]), padding=r.choice([0, 1]))


def batch_norm(c: int, h: int, w: int, r: random.Random) -> nn.Module:
    norm = nn.BatchNorm2d(c)
    nn.init.uniform_(norm.running_mean, -1, 1)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    nn.init.uniform_(norm.weight, -1.5, 1.5)
    return norm


def activation(c: int, h: int, w: int, r: random.Random) -> nn.Module:
    slope = r.uniform(-1.5, 1.5)
    return r.choice(
        [
            nn.ReLU(), nn.Sequential(Do(lambda x: 1.0 * x), nn.ReLU(inplace=True)),
            nn.ReLU6(), nn.LeakyReLU(slope), nn.PReLU(c, init=slope), nn.ELU(),
            nn.SELU(), nn.CELU(2.0), nn.GELU(), nn.GELU(approximate="tanh"), nn.SiLU(), nn.Mish(), nn.Hardswish(),
            nn.Hardtanh(-0.3, 0.2), nn.Hardsigmoid(), nn.Sigmoid(), nn.Tanh(), nn.Softplus(), nn.Softsign(),
            nn.LogSigmoid(), nn.Tanhshrink(), nn.Softshrink(0.1), nn.RReLU(), nn.Dropout(),
            Do(torch.abs), Do(lambda x: x.clamp(-0.2, 0.4)), Do(lambda x: torch.maximum(x, 0.1 * x)),
            Do(lambda x: x - torch.relu(x)), Do(lambda x: x + torch.tanh(x)), Do(lambda x: 0.5 - x),
            Do(lambda x: x - 0.7 * torch.sigmoid(x)), Do(lambda x: slope * x / 3), Do(lambda x: torch.relu(-x) + x),
        ]
    )  # fmt: skip


def doubled(c: int, h: int, w: int, r: random.Random) -> nn.Module | None:
    if c > 6:
        return None
    return r.choice(
        [
            TwoSidedReLU(),
            Do(lambda x: torch.relu(torch.cat([x, -x], 1))),
            Do(lambda x: torch.cat([torch.tanh(x), x - torch.tanh(x)], 1)),
            Do(lambda x: torch.cat([x.clamp(min=0), torch.relu(x) - x], 1)),
            Do(lambda x: torch.cat([torch.relu(x), x], 2)),
        ]
    )


def max_pool(c: int, h: int, w: int, r: random.Random) -> nn.Module | None:
    kernel = r.choice([2, 3])
    dilation = r.choice([1, 1, 2])
    if min(h, w) < dilation * (kernel - 1) + 1:
        return None
    return r.choice(
        [
            nn.MaxPool2d(kernel, r.choice([1, 2, 3]), r.choice([0, kernel // 2]), dilation, ceil_mode=r.random() < 0.5),
            nn.AdaptiveMaxPool2d(r.choice([1, 2, 3])),
            Do(lambda x: x.amax(2, keepdim=True)),
            Do(lambda x: x.max(3, keepdim=True)[0]),
        ]
    )


def average_pool(c: int, h: int, w: int, r: random.Random) -> nn.Module | None:
    kernel = r.choice([2, 3])
    if min(h, w) < kernel:
        return None
    padding, count = r.choice([0, 1]) if kernel > 1 else 0, r.random() < 0.5
    return r.choice(
        [
            nn.AvgPool2d(kernel, r.choice([1, 2]), padding, ceil_mode=r.random() < 0.5, count_include_pad=count),
            nn.AdaptiveAvgPool2d(r.choice([1, 2, 3])),
            Do(lambda x: x.mean((2, 3), keepdim=True)),
            Do(lambda x: x.sum(2, keepdim=True)),
        ]
    )


def norm_pool(c: int, h: int, w: int, r: random.Random) -> nn.Module | None:
    if min(h, w) < 2:
        return None
    return r.choice(
        [
            NormPool2d(2),
            NormPool2d(2, 1),
            nn.LPPool2d(2, 2, 1),
            Do(lambda x: (x.square().mean(1, keepdim=True) + 1e-3).sqrt()),
            Do(lambda x: torch.linalg.vector_norm(x, dim=1, keepdim=True)),
            Do(lambda x: functional.avg_pool2d(x**2, 2, 1, 1, count_include_pad=False) ** 0.5),
        ]
    )


def movement(c: int, h: int, w: int, r: random.Random) -> nn.Module | None:
    choices: list[nn.Module] = [
        Do(lambda x: x.permute(0, 1, 3, 2)), Do(lambda x: x.flip(2)), Do(lambda x: torch.roll(x, 1, 3)),
        Do(lambda x: x[:, :, :-1] if x.shape[2] > 1 else x), Do(lambda x: functional.pad(x, (1, 0, 0, 0), value=0.3)),
        Do(lambda x: x - x.mean((1, 2, 3), keepdim=True)), Do(lambda x: x - x.mean(1, keepdim=True)),
        Do(lambda x: x[:, :, torch.arange(x.shape[2]).flip(0) // 2]),
        Do(lambda x: x.flatten(2).unflatten(2, x.shape[2:])),
        Do(lambda x: torch.where(torch.arange(x.shape[3]) % 2 == 0, x, 0.5 * x)),
    ]  # fmt: skip
    if max(h, w) <= 3:
        choices += [nn.Upsample(scale_factor=2), nn.Upsample(scale_factor=2, mode="bilinear")]
    return r.choice(choices)


def weights(c: int, h: int, w: int, r: random.Random) -> nn.Module:
    scale = torch.empty(c, 1, 1).uniform_(-1.5, 1.5)
    bump = torch.empty(2, 1, 1, 1).fill_(1.0)
    return r.choice(
        [
            nn.Linear(w, r.randint(1, 4)),
            Do(lambda x: x * scale),
            Do(lambda x: x / (scale.abs() + 0.5) + scale),
            Do(lambda x: (x - 0.4) / 0.3),
            Do(lambda x: x * bump[:1]),
        ]
    )


def sorting(c: int, h: int, w: int, r: random.Random) -> nn.Module | None:
    if c % 2:
        return Do(lambda x: x.sort(1)[0])

    def max_min(x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        return torch.cat([torch.maximum(a, b), torch.minimum(a, b)], 1)

    def group_sort(x: Tensor) -> Tensor:
        return x.view(x.shape[0], -1, 2, *x.shape[2:]).sort(2)[0].view(x.shape)

    return r.choice([Do(max_min), Do(group_sort), Do(lambda x: x.topk(2, 1)[0])])


def normalisation(c: int, h: int, w: int, r: random.Random) -> nn.Module | None:
    return r.choice([nn.GroupNorm(1, c), nn.LayerNorm(w), nn.InstanceNorm2d(c, affine=True)]) if h * w > 1 else None


SIMPLE: dict[str, Block] = {
    "conv": conv, "conv_transpose": conv_transpose, "batch_norm": batch_norm, "activation": activation,
    "doubled": doubled, "max_pool": max_pool, "average_pool": average_pool, "norm_pool": norm_pool,
    "movement": movement, "weights": weights, "sorting": sorting, "normalisation": normalisation,
}  # fmt: skip


def same_size(c: int, r: random.Random, out: int | None = None) -> nn.Module:
    """A branch that keeps the size of the image."""
    body: list[nn.Module] = []
    for last in (False, True)[r.randint(0, 1) :]:
        kernel = r.choice([1, 3])
        body.append(nn.Conv2d(c, (out or c) if last else c, kernel, padding=kernel // 2))
        if not last or r.random() < 0.5:
            in_place = r.random() < 0.3
            body.append(nn.ReLU(inplace=True) if in_place else activation(c if not last else (out or c), 0, 0, r))
    return nn.Sequential(*body)


def residual(c: int, h: int, w: int, r: random.Random) -> nn.Module:
    body, t = same_size(c, r), r.random()
    return r.choice(
        [
            Do(lambda x, f: x + f(x), body),
            Do(lambda x, f: f(x).mul(1.5).add_(x), body),
            Do(lambda x, f: x - f(x), body),
            Do(lambda x, f: t * x + math.sqrt(1 - t * t) * f(math.sqrt(1 - t * t) * x), body),
            Do(lambda x, f: f(f(x)) + x, body),
            Do(lambda x, f: torch.add(x, f(x), alpha=0.5), body),
            Do(lambda x, f: x + f(x).mean((2, 3), keepdim=True), body),
        ]
    )


def fork(c: int, h: int, w: int, r: random.Random) -> nn.Module | None:
    if c > 4:
        return None
    one, other = same_size(c, r, r.randint(1, 2)), same_size(c, r)
    return r.choice(
        [
            Do(lambda x, f, g: torch.cat([f(x), g(x)], 1), one, other),
            Do(lambda x, f: torch.cat([x, f(x)], 1), one),
            Do(lambda x, g: torch.maximum(x, g(x)), other),
            Do(lambda x, g: torch.stack([x, g(x)]).amax(0), other),
            Do(lambda x, g: torch.cat([x, g(x), x], 2), other),
            Do(lambda x, g: torch.minimum(g(x), x) - x, other),
        ]
    )


def split(c: int, h: int, w: int, r: random.Random) -> nn.Module | None:
    if c % 2:
        return Do(lambda x: torch.cat([torch.relu(x[:, :1]), 2 * x[:, :2], x[:, 1:]], 1)) if c > 1 else None
    half = same_size(c // 2, r)

    def shuffle(x: Tensor, f: nn.Module) -> Tensor:
        a, b = x.chunk(2, 1)
        return torch.cat([a, f(b)], 1)

    def sums(x: Tensor, f: nn.Module) -> Tensor:
        a, b = x.split(x.shape[1] // 2, 1)
        return torch.cat([a + f(b), b], 1)

    return r.choice(
        [
            Do(shuffle, half),
            Do(sums, half),
            Do(lambda x: x[:, 0::2] + x[:, 1::2]),
            Do(lambda x, f: f(x[:, : x.shape[1] // 2]), half),
            Do(lambda x: torch.stack(x.unbind(1), 1)),
        ]
    )


def factors(c: int, h: int, w: int, r: random.Random) -> nn.Module | None:
    """Factors a layer, a channel or an entry, on both sides of branches that meet again."""
    if c > 4:
        return None

    def draw() -> Tensor:
        return torch.empty(r.choice([(), (c, 1, 1), (c, h, w), (1, h, w)])).uniform_(-1.5, 1.5)

    body, wide = same_size(c, r), same_size(c, r, c + 1)
    p, q, s, t = draw(), draw(), draw(), draw()
    channels = torch.empty(c + 1, 1, 1).uniform_(-1.5, 1.5)
    shape = r.choice([(), (c, 1, 1), (c, h, w)])
    sigmoid = ScaledSigmoid(*r.choice([(c, 1, 1), (c, h, w)]))
    nn.init.uniform_(sigmoid.t, 0.1, 4)
    own = r.choice([Residual(body, shape), Residual(wide, shape), ConvexResidual(wide)])
    nn.init.uniform_(own.t, 0, 1)
    norm = LargestScaleNorm(c)
    nn.init.uniform_(norm.variance, 0.5, 2)
    return r.choice(
        [
            Do(lambda x, f: p * (q * x) + s * f(t * x), body),
            Do(lambda x, f: p * x - s * f(t * x), body),
            Do(lambda x, f: p * x + f(t * x), body),
            Do(lambda x, f: torch.relu(p * (q * x)) + s * f(t * torch.tanh(q * x)), body),
            Do(lambda x, f: torch.cat([p * x, f(t * x), x], 1), body),
            Do(lambda x, f: functional.pad(p * x, (0, 0, 0, 0, 0, 1)) + channels * f(t * x), wide),
            Do(lambda x, f: functional.pad(p * x, (0, 0, 0, 0, 1, 0)) + channels * f(t * x[:, :c]), wide),
            Do(lambda x: s * torch.sigmoid(t * (p * x)) - x),
            Do(lambda x: p * (torch.tanh(q * x) + x) - s * x),
            own, nn.Sequential(own, Residual(same_size(c, r)) if own.branch is body else nn.Tanh()),
            sigmoid, TwoSided(sigmoid), norm,
        ]
    )  # fmt: skip


STEPS: dict[str, Block] = {**SIMPLE, "residual": residual, "fork": fork, "split": split, "factors": factors}


class Head(nn.Module):
    """From an image to logits."""

    def __init__(self, kind: str, sample: Tensor, classes: int) -> None:
        super().__init__()
        self.kind = kind
        features = sample.shape[1] if kind == "mean" else sample[0].numel()
        self.last = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = x.mean((2, 3)) if self.kind == "mean" else x.flatten(1)
        if self.kind == "bare":
            return x
        x = self.last(x)
        if self.kind == "centred":
            x = x - x.mean(1, keepdim=True)
        return torch.log_softmax(x, 1) if self.kind == "log_softmax" else x


HEADS = ("linear", "linear", "linear", "mean", "bare", "centred", "log_softmax")


def random_network(steps: Sequence[str], head: str, seed: int, shape: tuple[int, int, int] = (2, 5, 5)) -> nn.Module:
    """A float32 network in eval mode; steps that do not fit are left out."""
    r = random.Random(seed)
    torch.manual_seed(seed)
    x = torch.randn(2, *shape)
    layers: list[nn.Module] = []
    for name in steps:
        _, c, h, w = x.shape
        layer = STEPS[name](c, h, w, r)
        if layer is None:
            continue
        layer = layer.eval()
        y = layer(x.clone())
        if not 0 < y[0].numel() <= 200 or not bool(torch.isfinite(y).all()):
            continue
        layers.append(layer)
        x = y.detach()
    layers.append(Head(head, x, r.randint(2, 4)))
    for layer in layers:
        for parameter in layer.parameters():
            if r.random() < 0.2:
                parameter.data.mul_(2)
    return nn.Sequential(*layers).eval()
