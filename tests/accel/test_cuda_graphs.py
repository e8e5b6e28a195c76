"""What is asked of torch.cuda, in which order: the recorder on a machine without a GPU, with a stand-in for it.

That graphs hold the right values is tested with a tape (test_capture.py); that a GPU takes them is for a GPU to say.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from robcert.accel.capture import CudaGraphs, recorder_for, replayed

CUDA = torch.device("cuda", 1)


class Stream:
    def __init__(self, log: list[str], name: str) -> None:
        self.log, self.name = log, name

    def wait_stream(self, other: Stream) -> None:
        self.log.append(f"{self.name} waits for {other.name}")


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every name that is replaced has to exist in torch.cuda."""
    said: list[str] = []
    mode: list[Any] = [0]

    @contextmanager
    def inside(what: Any, **_: Any) -> Generator[None]:
        said.append(f"enter {getattr(what, 'name', what)}")
        yield
        said.append(f"leave {getattr(what, 'name', what)}")

    def set_mode(value: Any) -> None:
        mode[0] = value
        said.append(f"mode {value}")
        warnings.warn("Synchronization debug mode is a prototype feature and does not detect all", stacklevel=2)

    class Graph:
        name = "graph"

        def replay(self) -> None:
            said.append("replay")

    for name, stand_in in {
        "device": inside,
        "stream": inside,
        "graph": inside,
        "CUDAGraph": Graph,
        "Stream": lambda: Stream(said, "beside"),
        "current_stream": lambda: Stream(said, "here"),
        "set_stream": lambda stream: said.append(f"set {stream.name}"),
        "get_sync_debug_mode": lambda: mode[0],
        "set_sync_debug_mode": set_mode,
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    return said


def test_a_rehearsal_is_done_beside_and_watched(log: list[str]) -> None:
    assert CudaGraphs(CUDA).rehearse(lambda: log.append("work")) is None
    assert log == [
        "enter cuda:1", "beside waits for here", "enter beside", "mode warn", "work", "mode 0", "leave beside",
        "here waits for beside", "leave cuda:1",
    ]  # fmt: skip


def test_a_wait_is_a_reason(log: list[str]) -> None:
    def work() -> None:
        warnings.warn("called a synchronizing CUDA operation (Triggered internally at ...)", stacklevel=1)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert str(CudaGraphs(CUDA).rehearse(work)).startswith("test_cuda_graphs.py:")
        graph = replayed(work, CUDA)
    assert graph is work, "what waits is not captured"
    assert "enter graph" not in log


def test_the_mode_is_put_back_when_the_work_fails(log: list[str]) -> None:
    def work() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        CudaGraphs(CUDA).rehearse(work)
    assert log[-1] == "mode 0"


def test_a_recording_replays_the_graph(log: list[str]) -> None:
    replay = CudaGraphs(CUDA).record(lambda: log.append("work"))
    assert log == ["enter cuda:1", "enter graph", "work", "leave graph", "leave cuda:1"]
    replay()
    assert log[-1] == "replay"


def test_after_a_failed_capture_all_is_as_before(log: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def broken(*_: Any, **__: Any) -> Generator[None]:
        try:
            yield
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    monkeypatch.setattr(torch.cuda, "graph", broken)

    def work() -> None:
        raise ValueError("an operator of the network")

    with pytest.raises(RuntimeError, match="previous error") as failed:
        CudaGraphs(CUDA).record(work)
    assert str(failed.value.__context__) == "an operator of the network", "what Steps names as the reason"
    assert log[-1] == "set here"


def test_only_cuda_records() -> None:
    assert recorder_for(torch.device("cpu")) is None
    assert isinstance(recorder_for(CUDA), CudaGraphs)
