"""Work on a GPU that is recorded once and then replayed without its Python code, as a CUDA graph.

A small network is asked faster than Python can ask: launching the kernels of a step one by one takes longer than
running them. A graph launches all of them at once. It remembers addresses and not code, so whatever the work reads and
writes has to stay where it is, and the work may not wait for the device.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch

Work = Callable[[], None]
"""Something done to tensors in place."""


class Recorder(Protocol):
    """Makes of a piece of work something that can be replayed without its Python code."""

    def rehearse(self, work: Work) -> str | None:
        """Do the work, and return what in it cannot be recorded, or None if it can."""
        ...

    def record(self, work: Work) -> Work:
        """Record the work without doing it; calling what is returned does it, on the tensors that it had.

        Raises:
            Exception: of any kind, where the work cannot be recorded. Then nothing has been done.
        """
        ...

    def seconds(self, work: Work) -> float:
        """Do the work, wait for it, and return the seconds."""
        ...


class CudaGraphs:
    """Records on one CUDA device.

    Args:
        device: the device that the work is done on.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def rehearse(self, work: Work) -> str | None:
        """Do the work on a stream beside, where libraries set themselves up, and watch whether it waits."""
        with torch.cuda.device(self.device):
            current, side = torch.cuda.current_stream(), torch.cuda.Stream()
            before = torch.cuda.get_sync_debug_mode()
            side.wait_stream(current)
            with warnings.catch_warnings(record=True) as seen, torch.cuda.stream(side):
                warnings.simplefilter("always")
                torch.cuda.set_sync_debug_mode("warn")
                try:
                    work()
                finally:
                    torch.cuda.set_sync_debug_mode(before)
            current.wait_stream(side)
        for warning in seen:
            if "called a synchronizing CUDA operation" in str(warning.message):
                return f"{Path(warning.filename).name}:{warning.lineno} waits for the device"
        return None

    def record(self, work: Work) -> Work:
        """Capture a graph with memory of its own."""
        with torch.cuda.device(self.device):
            graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
            try:
                # Without a stream of its own it would take one of the device that captured first.
                with torch.cuda.graph(graph, stream=torch.cuda.Stream()):
                    work()
            except BaseException:
                torch.cuda.set_stream(current)  # torch stays on the other where a capture cannot be ended
                raise
        return graph.replay

    def seconds(self, work: Work) -> float:
        """Return the seconds on the wall from an idle device to an idle device."""
        torch.cuda.synchronize(self.device)
        began = time.perf_counter()
        work()
        torch.cuda.synchronize(self.device)
        return time.perf_counter() - began


def recorder_for(device: torch.device) -> Recorder | None:
    """Return what records steps on this device; None where they run as they are."""
    return CudaGraphs(device) if device.type == "cuda" else None


def replayed(work: Work, device: torch.device) -> Work:
    """Return the work as it is recorded on this device; where nothing can be recorded, the work itself."""
    recorder = recorder_for(device)
    if recorder is None or recorder.rehearse(work) is not None:
        return work
    try:
        return recorder.record(work)
    except Exception:  # whatever an operator of a network says that cannot be recorded
        return work
