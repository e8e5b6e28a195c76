"""The steps between two looks, on a GPU as one CUDA graph.

The state of the attack lives in buffers that never move; the problem and the oracle are written in place by everyone
(`robcert.engine.leg` refills slots between two replays); and no step waits for the device (`robcert.attacks.protocol`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from torch import Tensor

from robcert.attacks.protocol import Attack, Problem, Refining
from robcert.engine.capture import Recorder, Work
from robcert.engine.oracle import ModelOracle


@dataclass
class _Recording:
    """One replay, and what it costs in calls of the model."""

    replay: Work
    forwards: int
    backwards: int


class Steps:
    """Takes the steps between two looks.

    Recorded, every batch takes the first of them as they are, to rehearse, and replays the others. Slots of one batch
    are then all searched with one network, chosen before a replay: the search network if no busy slot needs the
    float32 network at any step of it. There is one recording a network, and new ones for another oracle (a batch that
    has shrunk). Work that cannot be recorded is from then on done as it is.

    Args:
        attack: whose steps.
        searching: whether the oracle has a search network.
        recorder: None: the steps run as they are.

    Attributes:
        refused: why the steps were not recorded although there is a recorder, or None.
    """

    def __init__(self, attack: Attack, searching: bool, recorder: Recorder | None = None) -> None:
        self.attack = attack
        self.refining = attack if searching and isinstance(attack, Refining) else None
        self.recorder = recorder
        self.refused: str | None = None
        self._oracle: ModelOracle | None = None
        self._buffers: Any = None
        self._rehearsed: set[bool] = set()
        self._recordings: dict[bool, _Recording] = {}

    def __call__(self, oracle: ModelOracle, problem: Problem, state: Any) -> Any:
        """The state after ``attack.period`` steps; its tensors may change in place at the next call."""
        if self.recorder is None:
            return self._as_they_are(oracle, problem, state)
        if oracle is not self._oracle:
            self._begin(oracle, state)
        write(state, self._buffers)
        coarse = self._coarse(problem, self._buffers)
        oracle.ask_all(coarse)

        def work() -> None:
            write(self._straight(oracle, problem, self._buffers), self._buffers)

        before = oracle.forwards, oracle.backwards
        if coarse not in self._rehearsed:
            self._rehearsed.add(coarse)
            if (reason := self.recorder.rehearse(work)) is not None:
                self._give_up(oracle, reason)
            return self._buffers
        if coarse not in self._recordings:
            try:
                replay = self.recorder.record(work)
            except Exception as error:  # whatever an operator of a network says that cannot be recorded
                oracle.forwards, oracle.backwards = before
                first = error.__context__ or error  # a capture that is broken off fails once more at its end
                self._give_up(oracle, f"{type(first).__name__}: {(str(first).splitlines() or [''])[0]}")
                return self._as_they_are(oracle, problem, self._buffers)
            cost = oracle.forwards - before[0], oracle.backwards - before[1]
            self._recordings[coarse] = _Recording(replay, *cost)
        recording = self._recordings[coarse]
        recording.replay()
        oracle.forwards, oracle.backwards = before[0] + recording.forwards, before[1] + recording.backwards
        return self._buffers

    def _begin(self, oracle: ModelOracle, state: Any) -> None:
        self._oracle = oracle
        oracle.on_host = False
        self._buffers = replace(state, **{f.name: getattr(state, f.name).clone() for f in fields(state)})
        self._rehearsed.clear()
        self._recordings.clear()

    def _give_up(self, oracle: ModelOracle, reason: str) -> None:
        self.recorder, self.refused = None, reason
        self._recordings.clear()
        oracle.on_host = oracle.problem.x.device.type == "cpu"

    def _coarse(self, problem: Problem, state: Any) -> bool:
        """Whether no busy slot needs the float32 network before the next look (an idle one is at a negative best)."""
        if self.refining is None:
            return False
        fine = self.refining.fine(problem, state, self.attack.period)
        return not bool((fine & (problem.best >= 0)).any())

    def _straight(self, oracle: ModelOracle, problem: Problem, state: Any) -> Any:
        for _ in range(self.attack.period):
            state = self.attack.step(oracle, problem, state)
        return state

    def _as_they_are(self, oracle: ModelOracle, problem: Problem, state: Any) -> Any:
        """Each slot with the network that it needs at each step."""
        if self.refining is None:
            return self._straight(oracle, problem, state)
        for _ in range(self.attack.period):
            oracle.ask(~self.refining.fine(problem, state))
            state = self.attack.step(oracle, problem, state)
        return state


def write(state: Any, buffers: Any) -> None:
    """Copy a state into the tensors of another, of which some may be its own, or each other's."""
    into = {f.name: getattr(buffers, f.name) for f in fields(buffers)}
    there = {_address(tensor) for tensor in into.values()}
    values: dict[str, Tensor] = {}
    for name, buffer in into.items():
        value: Tensor = getattr(state, name)
        if value is not buffer:
            # What lies in a buffer itself may be overwritten before it is read.
            values[name] = value.clone() if _address(value) in there else value
    for name, value in values.items():
        into[name].copy_(value)


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
