"""A ResNet-18 for 32x32 pictures on CIFAR-10, trained for a few minutes; on random pictures where there is no data."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from task import Task
from torch import Tensor, nn
from torch.nn import functional as F

from robcert.network.load import from_module
from robcert.training.precision import multiplies_bfloat16
from robcert.vision import torchvision

SHAPE = (3, 32, 32)


def make_residual_task(images: int, quick: bool) -> Task:
    """Read the data, train briefly, choose images that are classified clearly."""
    torch.manual_seed(0)
    x, y = _pictures("train", 20 if quick else 400)
    test, labels = _pictures("test", 20 if quick else 100)
    net = torchvision().models.resnet18(num_classes=10)
    net.conv1, net.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    _train(net, x, y, epochs=1 if quick else 4)
    net.eval()
    with torch.no_grad():
        logits = torch.cat([net(part) for part in test.split(100)])
    right = logits.argmax(dim=1) == labels
    top = logits.topk(2, dim=1).values
    chosen = (right & (top[:, 0] - top[:, 1] > 0.02 * logits.abs().amax(dim=1))).nonzero().flatten()[:images]
    if len(chosen) < images:
        if not quick:
            raise SystemExit(f"only {len(chosen)} pictures are classified clearly, {images} are needed")
        chosen = torch.arange(images)
        labels = logits.argmax(dim=1)
    return Task(
        data="CIFAR-10 (JPEG)" if _archive("test") else "random pictures",
        model=from_module(net, SHAPE, 10, name="resnet18"),
        parameters=sum(p.numel() for p in net.parameters()),
        accuracy=float(right.float().mean()),
        x=test[chosen].contiguous(),
        y=labels[chosen].contiguous(),
    )


def _archive(split: str) -> Path | None:
    folder = os.environ.get("ROBCERT_DATA")
    path = Path(folder) / "cifar10-jpeg" / f"{split}.tar.gz" if folder else None
    if path is not None and path.is_file():
        return path
    return None


def _pictures(split: str, each: int) -> tuple[Tensor, Tensor]:
    """The first ``each`` pictures of every class."""
    path = _archive(split)
    if path is None:
        y = torch.arange(10).repeat_interleave(each)
        means = torch.rand(10, 3, 1, 1)
        return (means[y] + 0.1 * torch.randn(len(y), *SHAPE)).clamp(0, 1), y
    taken: dict[str, list[Tensor]] = {}
    with tarfile.open(path) as archive:
        for member in archive:
            kind = Path(member.name).parent.name
            stream = archive.extractfile(member) if member.isfile() else None
            if stream is None or len(taken.setdefault(kind, [])) >= each:
                continue
            picture = np.asarray(Image.open(io.BytesIO(stream.read())).convert("RGB"), dtype=np.float32)
            taken[kind].append(torch.from_numpy(picture / 255).permute(2, 0, 1))
    names = sorted(taken)
    x = torch.stack([picture for name in names for picture in taken[name]])
    return x, torch.tensor([k for k, name in enumerate(names) for _ in taken[name]])


def _train(net: nn.Module, x: Tensor, y: Tensor, epochs: int, size: int = 64) -> None:
    steps = epochs * (len(x) // size)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
    net.train().to(memory_format=torch.channels_last)
    for _ in range(epochs):
        for rows in torch.randperm(len(x))[: len(x) // size * size].split(size):
            with torch.autocast("cpu", torch.bfloat16, enabled=multiplies_bfloat16(x.device)):
                loss = F.cross_entropy(net(x[rows].contiguous(memory_format=torch.channels_last)).float(), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    net.to(memory_format=torch.contiguous_format)
