"""Checkpoints of a training: the epochs so far, and enough on disk to go on after an interruption."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from robcert.files import write_atomically
from robcert.training.held_out import BestOnHeldOut
from robcert.training.optimiser import ScheduledOptimiser
from robcert.training.regularisers import Regulariser

_VERSION = 3


@dataclass(frozen=True)
class Epoch:
    """The figures of an epoch.

    Attributes:
        number: from 1.
        epochs: of the whole training.
        loss: mean, on the training images.
        accuracy: on the test images.
        mean_gap: on the test images.
        held_out_loss: mean cross-entropy on the images held out; None: none are.
        best: its loss on the images held out is the smallest so far.
    """

    number: int
    epochs: int
    loss: float
    accuracy: float
    mean_gap: float
    held_out_loss: float | None = None
    best: bool = False


@dataclass
class Parts:
    """Everything that changes while a network is trained.

    Attributes:
        net: with its parametrisations.
        own: what the objective trains besides.
        optimiser: moments, steps, rates.
        generator: of order, augmentation and random starts.
        regularisers: what they remember.
        held_out: the best epoch so far; None: no images are held out.
    """

    net: nn.Module
    own: list[nn.Parameter]
    optimiser: ScheduledOptimiser
    generator: torch.Generator
    regularisers: list[Regulariser]
    held_out: BestOnHeldOut | None

    def state(self) -> dict[str, Any]:
        """Tensors and plain values."""
        return {
            "net": self.net.state_dict(),
            "own": [parameter.detach() for parameter in self.own],
            "optimiser": self.optimiser.state(),
            "generator": self.generator.get_state(),
            "regularisers": [regulariser.state() for regulariser in self.regularisers],
            "held_out": None if self.held_out is None else self.held_out.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Back to a `state`, bit for bit."""
        self.net.load_state_dict(state["net"])
        stored: Iterable[Tensor] = state["own"]
        with torch.no_grad():
            for parameter, value in zip(self.own, stored, strict=True):
                parameter.copy_(value)
        self.optimiser.restore(state["optimiser"])
        self.generator.set_state(state["generator"].cpu())
        for regulariser, kept in zip(self.regularisers, state["regularisers"], strict=True):
            regulariser.restore(kept)
        if self.held_out is not None:
            self.held_out.restore(state["held_out"])


@dataclass
class Checkpoint:
    """The epochs of a training, and a file from which the same training goes on.

    A training that was interrupted at any moment, by SIGKILL too, and begun again ends with the same weights. The
    file is renamed into place when it is whole, at the end of an epoch, and removed after the last one.

    Attributes:
        path: the file.
        fingerprint: says which training it is; the file of another one is not used.
        every: seconds between two files: what an interruption costs at most, if an epoch takes less.
        history: the epochs so far, those before an interruption included.
    """

    path: Path
    fingerprint: str
    every: float = 20.0
    history: list[Epoch] = field(default_factory=list[Epoch])
    _written: float = field(default_factory=time.monotonic)

    def restore(self, parts: Parts) -> int:
        """Goes back to the file, if there is one of this training; returns how many epochs are done."""
        try:
            found = torch.load(self.path, map_location="cpu", weights_only=True)
            if (found["version"], found["fingerprint"]) != (_VERSION, self.fingerprint):
                return 0
            history = [Epoch(**epoch) for epoch in found["history"]]
            parts.restore(found["state"])
        except FileNotFoundError:
            return 0
        except (RuntimeError, UnpicklingError, EOFError, KeyError, TypeError, ValueError):
            # Not a file of ours, or one that a full disk cut short: the training begins anew.
            return 0
        self.history[:] = history
        return len(history)

    def keep(self, epoch: Epoch, parts: Parts) -> None:
        """Remembers an epoch; writes the file if the last one is old enough and more epochs follow."""
        self.history.append(epoch)
        if epoch.number == epoch.epochs or time.monotonic() - self._written < self.every:
            return
        content = {
            "version": _VERSION,
            "fingerprint": self.fingerprint,
            "history": [asdict(e) for e in self.history],
            "state": parts.state(),
        }

        def write(path: Path) -> None:
            with path.open("wb") as file:
                torch.save(content, file)

        write_atomically(self.path, write)
        self._written = time.monotonic()

    def remove(self) -> None:
        """The training is done, and its results are written."""
        self.path.unlink(missing_ok=True)
