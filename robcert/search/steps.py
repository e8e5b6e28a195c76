"""The steps between two looks, on a GPU as one CUDA graph, and in a long leg of fused kernels.

The state of the attack lives in buffers that never move; the problem and the oracle are written in place by everyone
(`robcert.search.stage` refills slots between two replays); and no step waits for the device
(`robcert.attacks.protocol`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from torch import Tensor

from robcert.accel.capture import Recorder, Work
from robcert.attacks.protocol import Attack, Problem, Refining
from robcert.search.fusion import Compiler, Fused, fuse
from robcert.search.oracle import ModelOracle

PATIENCE = 20_000
"""Steps of one size that are replayed before they are fused. On a small network they take about as long as the
compiler; a count and not a time, so that the same command gives the same numbers again."""


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

    After `PATIENCE` steps with one network a compiler fuses their kernels, and they are recorded once more. Where that
    fails, or is not faster, they go on as they were.

    Args:
        attack: whose steps.
        searching: whether the oracle has a search network.
        recorder: None: the steps run as they are.
        compiler: None: they are never fused.

    Attributes:
        refused: why the steps were not recorded although there is a recorder, or None.
        unfused: why they are not fused although there is a compiler, or None.
        fusing: seconds that were spent on fusing, or None where nothing was fused yet.
        taken: steps with the float32 network and with the search network since the batch has had its size.
        patience: so many of either are replayed before they are fused.
    """

    def __init__(
        self, attack: Attack, searching: bool, recorder: Recorder | None = None, compiler: Compiler | None = None
    ) -> None:
        self.attack = attack
        self.refining = attack if searching and isinstance(attack, Refining) else None
        self.recorder, self.compiler = recorder, compiler
        self.refused: str | None = None
        self.unfused: str | None = None
        self.fusing: float | None = None
        self.taken = [0, 0]
        self.patience = PATIENCE
        self._oracle: ModelOracle | None = None
        self._buffers: Any = None
        self._rehearsed: set[bool] = set()
        self._recordings: dict[bool, _Recording] = {}
        self._fused: dict[bool, Fused] = {}
        self._before: dict[bool, tuple[_Recording, float]] = {}

    def __call__(self, oracle: ModelOracle, problem: Problem, state: Any) -> Any:
        """The state after ``attack.period`` steps; its tensors may change in place at the next call."""
        if self.recorder is None:
            return self._as_they_are(oracle, problem, state)
        if oracle is not self._oracle:
            self._begin(oracle, state)
        write(state, self._buffers)
        coarse = self._coarse(problem, self._buffers)
        oracle.ask_all(coarse)
        if self.compiler is not None and self.taken[coarse] >= self.patience and coarse not in self._fused:
            self._fuse(self.compiler, oracle, problem, coarse)
        if coarse not in self._rehearsed:
            self._rehearse(self.recorder, oracle, problem, coarse)
        elif coarse in self._recordings or self._record(self.recorder, oracle, problem, coarse):
            recording = self._recordings[coarse]
            self._replay(self.recorder, recording, coarse)
            oracle.forwards += recording.forwards
            oracle.backwards += recording.backwards
        else:
            return self._as_they_are(oracle, problem, self._buffers)
        self.taken[coarse] += self.attack.period
        return self._buffers

    def _work(self, oracle: ModelOracle, problem: Problem, coarse: bool) -> Work:
        def work() -> None:
            if (fused := self._fused.get(coarse)) is not None:
                fused(oracle, problem, self._buffers, self.attack.period)
            else:
                write(self._straight(oracle, problem, self._buffers), self._buffers)

        return work

    def _rehearse(self, recorder: Recorder, oracle: ModelOracle, problem: Problem, coarse: bool) -> None:
        """Take the steps once as they will be recorded."""
        self._rehearsed.add(coarse)
        reason = recorder.rehearse(self._work(oracle, problem, coarse))
        if reason is None:
            return
        if self._part(coarse, reason):
            self._rehearsed.discard(coarse)
        else:
            self._give_up(oracle, reason)

    def _record(self, recorder: Recorder, oracle: ModelOracle, problem: Problem, coarse: bool) -> bool:
        """Record the steps without taking them; whether there is a recording now."""
        before = oracle.forwards, oracle.backwards
        try:
            replay = recorder.record(self._work(oracle, problem, coarse))
        except Exception as error:  # whatever an operator of a network says that cannot be recorded
            oracle.forwards, oracle.backwards = before
            reason = _said(error.__context__ or error)  # a capture that is broken off fails once more at its end
            if self._part(coarse, reason):
                return self._record(recorder, oracle, problem, coarse)
            self._give_up(oracle, reason)
            return False
        cost = oracle.forwards - before[0], oracle.backwards - before[1]
        oracle.forwards, oracle.backwards = before
        self._recordings[coarse] = _Recording(replay, *cost)
        return True

    def _fuse(self, compiler: Compiler, oracle: ModelOracle, problem: Problem, coarse: bool) -> None:
        """Have the steps fused, to be rehearsed and recorded anew."""
        began = time.monotonic()
        try:
            self._fused[coarse] = fuse(self.attack, oracle, problem, self._buffers, compiler)
        except Exception as error:  # there may be no compiler, and what a compiler may say has no end
            self.compiler, self.unfused = None, _said(error)
            return
        self.fusing = (self.fusing or 0.0) + time.monotonic() - began
        self._rehearsed.discard(coarse)
        self._recordings.pop(coarse, None)

    def _replay(self, recorder: Recorder, recording: _Recording, coarse: bool) -> None:
        """Take recorded steps; the last before they are fused and the first after it on the clock."""
        fused = coarse in self._fused
        if self.compiler is not None and not fused and self.taken[coarse] + self.attack.period >= self.patience:
            self._before[coarse] = recording, recorder.seconds(recording.replay)
        elif fused and coarse in self._before:
            pace, now = self._before[coarse][1], recorder.seconds(recording.replay)
            if now > pace:
                steps = f"{self.attack.period} steps"
                self._part(coarse, f"{steps} take {1e3 * now:.1f} ms fused, {1e3 * pace:.1f} as they are")
            self._before.pop(coarse, None)
        else:
            recording.replay()

    def _part(self, coarse: bool, reason: str) -> bool:
        """Go back to steps that are not fused; whether they were."""
        if self._fused.pop(coarse, None) is None:
            return False
        self.compiler, self.unfused = None, reason
        if coarse in self._before:
            self._recordings[coarse] = self._before.pop(coarse)[0]
        return True

    def resume(self, taken: Sequence[int], unfused: str | None) -> None:
        """Go on where another run of the same leg was: see the attributes of these names."""
        self.taken = list(taken)
        if unfused is not None:
            self.compiler, self.unfused = None, unfused

    def _begin(self, oracle: ModelOracle, state: Any) -> None:
        if self._oracle is not None:  # else it goes on where a snapshot ended
            self.taken = [0, 0]
        self._oracle = oracle
        oracle.on_host = False
        self._buffers = replace(state, **{f.name: getattr(state, f.name).clone() for f in fields(state)})
        self._rehearsed.clear()
        self._recordings.clear()
        self._fused.clear()
        self._before.clear()

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
        if oracle.deferring:
            oracle.confirm()
        return state

    def _as_they_are(self, oracle: ModelOracle, problem: Problem, state: Any) -> Any:
        """Each slot with the network that it needs at each step."""
        if self.refining is None:
            return self._straight(oracle, problem, state)
        for _ in range(self.attack.period):
            busy = problem.best >= 0
            coarse = ~self.refining.fine(problem, state) & busy
            oracle.ask(coarse | (coarse.any() & ~busy))  # an idle slot is no reason to ask both networks
            state = self.attack.step(oracle, problem, state)
        return state


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


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
