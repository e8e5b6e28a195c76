"""ART, the Adversarial Robustness Toolbox."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable
from typing import Any

import torch
from contender import Attack, Contender, Setting
from task import Counted, Task
from torch import Tensor, nn

from robcert.vision import torchvision


def art_attacks() -> list[Contender]:
    torchvision()  # ART imports it too, and would meet the breakage that robcert.vision mends
    evasion: Any = importlib.import_module("art.attacks.evasion")
    estimators: Any = importlib.import_module("art.estimators.classification")
    version = importlib.metadata.version("adversarial-robustness-toolbox")

    def call(make: Callable[[Any, int, Setting], Any]) -> Attack:
        def run(counted: Counted, task: Task, setting: Setting) -> Tensor:
            classifier = estimators.PyTorchClassifier(
                counted,
                nn.CrossEntropyLoss(),
                tuple(task.x.shape[1:]),
                task.model.num_classes,
                clip_values=(0.0, 1.0),
                device_type="cpu" if task.x.device.type == "cpu" else "gpu",
            )
            made = make(classifier, len(task.x), setting)
            return torch.from_numpy(made.generate(x=task.x.cpu().numpy(), y=task.y.cpu().numpy())).to(task.x.device)

        return run

    def pgd(norm: float, share: float) -> Attack:
        return call(
            lambda c, n, s: evasion.ProjectedGradientDescentPyTorch(
                c, norm, s.eps, s.eps * share, max_iter=s.steps, num_random_init=1, batch_size=n, verbose=False
            )
        )

    last = "returns the last point, not the best; copies images to NumPy and back; loss.backward()"
    return [
        Contender("ART", version, "pgd l2", "ProjectedGradientDescentPyTorch", last, pgd(2, 0.2)),
        Contender("ART", version, "pgd linf", "ProjectedGradientDescentPyTorch", last, pgd(float("inf"), 0.25)),
        Contender(
            "ART",
            version,
            "apgd linf",
            "AutoProjectedGradientDescent, DLR",
            "every step through NumPy; loss.backward()",
            call(
                lambda c, n, s: evasion.AutoProjectedGradientDescent(
                    c, float("inf"), s.eps, 2 * s.eps, s.steps,
                    nb_random_init=1, batch_size=n, loss_type="difference_logits_ratio", verbose=False,
                )
            ),
        ),
    ]  # fmt: skip
