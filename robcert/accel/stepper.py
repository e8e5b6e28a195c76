"""The one thing that a search knows of acceleration: something that takes the steps of an attack.

Whether they run as they are, as one CUDA graph, of fused kernels or partly in low precision changes neither what is
asked of the stepper nor what the float32 network has to confirm.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from robcert.accel.capture import Recorder, Work, recorder_for
from robcert.accel.forward import Forward, Networks
from robcert.accel.fusion import Compiler, Fused, compiler_for, fuse
from robcert.attacks.protocol import Attack, Oracle, Problem, Refining
from robcert.network.batching import multiple_of_eight, power_of_two

__all__ = ["Forward", "Networks", "SteppedOracle", "Stepper", "stepper_for"]

PATIENCE = 20_000
"""Steps of one size that are replayed before they are fused. On a small network they take about as long as the
compiler; a count and not a time, so that the same command gives the same numbers again."""


class SteppedOracle(Oracle, Protocol):
    """The oracle of a batch, as a stepper drives it.

    Attributes:
        problem: the images in the slots.
        forward: the network that it asks.
        forwards, backwards: calls of the model, in batches.
    """

    problem: Problem
    forward: Forward
    forwards: int
    backwards: int

    def confirm(self) -> None:
        """Ask the float32 network about what low precision has found in steps that deferred it."""
        ...

    def rows(self, state: Any) -> dict[str, Tensor]:
        """Return the tensors with a row a slot, of the problem, the oracle and the state, by name, as they are."""
        ...

    def over(self, rows: dict[str, Tensor], state: Any) -> tuple[SteppedOracle, Any]:
        """Return an oracle and a state like these that read and write other tensors; its calls are counted from 0."""
        ...


@dataclass
class _Recording:
    """One replay, and what it costs in calls of the model."""

    replay: Work
    forwards: int
    backwards: int


class Stepper:
    """Takes the steps of one attack between two synchronisations.

    Recorded, every batch takes the first of them as they are, to rehearse, and replays the others: the state of the
    attack lies in buffers that never move, the problem and the oracle are written in place by everyone, and no step
    waits for the device (`robcert.attacks.protocol`). Slots of one batch are then all searched in one precision, chosen
    before a replay: the low one if no busy slot needs float32 at any step of it. There is one recording a precision,
    and new ones for another oracle (a batch of another size). Work that cannot be recorded is from then on done as it
    is.

    After `PATIENCE` steps in one precision a compiler fuses their kernels, and they are recorded once more. Where that
    fails, or is not faster, they go on as they were.

    Args:
        attack: whose steps.
        networks: what the steps ask; a copy in low precision is for attacks that say where they need float32.
        recorder: None: the steps run as they are.
        compiler: None: they are never fused.

    Attributes:
        refused: why the steps were not recorded although there is a recorder, or None.
        unfused: why they are not fused although there is a compiler, or None.
        fusing: seconds that were spent on fusing, or None where nothing was fused yet.
        taken: steps in float32 and in low precision since the batch has had its size.
        patience: so many of either are replayed before they are fused.
    """

    def __init__(
        self, attack: Attack, networks: Networks, recorder: Recorder | None = None, compiler: Compiler | None = None
    ) -> None:
        self.attack = attack
        self.refining = attack if networks.low is not None and isinstance(attack, Refining) else None
        self.networks = networks if self.refining is not None else Networks(networks.exact)
        self.recorder, self.compiler = recorder, compiler
        self.refused: str | None = None
        self.unfused: str | None = None
        self.fusing: float | None = None
        self.taken = [0, 0]
        self.patience = PATIENCE
        self._oracle: SteppedOracle | None = None
        self._buffers: Any = None
        self._rehearsed: set[bool] = set()
        self._recordings: dict[bool, _Recording] = {}
        self._fused: dict[bool, Fused] = {}
        self._before: dict[bool, tuple[_Recording, float]] = {}

    def forward(self, slots: int, device: torch.device) -> Forward:
        """Return the network as an oracle of so many slots asks it."""
        return Forward(self.networks, torch.zeros(slots, dtype=torch.bool, device=device))

    def slots_for(self, work: int, most: int) -> int:
        """Return the number of slots for so much work, at most ``most``; where steps are recorded, one of few sizes."""
        return (multiple_of_eight if self.recorder is None else power_of_two)(work, most)

    def __call__(self, oracle: SteppedOracle, state: Any) -> Any:
        """Return the state after ``attack.period`` steps; its tensors may change in place at the next call."""
        if self.recorder is None:
            return self._as_they_are(oracle, state)
        if oracle is not self._oracle:
            self._begin(oracle, state)
        write(state, self._buffers)
        low = self._low(oracle.problem, self._buffers)
        oracle.forward.choose_all(low)
        if self.compiler is not None and self.taken[low] >= self.patience and low not in self._fused:
            self._fuse(self.compiler, oracle, low)
        if low not in self._rehearsed:
            self._rehearse(self.recorder, oracle, low)
        elif low in self._recordings or self._record(self.recorder, oracle, low):
            recording = self._recordings[low]
            self._replay(self.recorder, recording, low)
            oracle.forwards += recording.forwards
            oracle.backwards += recording.backwards
        else:
            return self._as_they_are(oracle, self._buffers)
        self.taken[low] += self.attack.period
        return self._buffers

    def progress(self) -> dict[str, Any]:
        """Return what `resume` needs, as JSON has it."""
        return {"taken": list(self.taken), "unfused": self.unfused}

    def resume(self, progress: dict[str, Any]) -> None:
        """Go on where another stepper of the same stage was."""
        self.taken = list(progress["taken"])
        if progress["unfused"] is not None:
            self.compiler, self.unfused = None, progress["unfused"]

    def _work(self, oracle: SteppedOracle, low: bool) -> Work:
        def work() -> None:
            if (fused := self._fused.get(low)) is not None:
                fused(oracle, self._buffers, self.attack.period)
            else:
                write(self._straight(oracle, self._buffers), self._buffers)

        return work

    def _rehearse(self, recorder: Recorder, oracle: SteppedOracle, low: bool) -> None:
        """Take the steps once as they will be recorded."""
        self._rehearsed.add(low)
        reason = recorder.rehearse(self._work(oracle, low))
        if reason is None:
            return
        if self._unfuse(low, reason):
            self._rehearsed.discard(low)
        else:
            self._give_up(oracle, reason)

    def _record(self, recorder: Recorder, oracle: SteppedOracle, low: bool) -> bool:
        """Record the steps without taking them; whether there is a recording now."""
        before = oracle.forwards, oracle.backwards
        try:
            replay = recorder.record(self._work(oracle, low))
        except Exception as error:  # whatever an operator of a network says that cannot be recorded
            oracle.forwards, oracle.backwards = before
            reason = _said(error.__context__ or error)  # a capture that is broken off fails once more at its end
            if self._unfuse(low, reason):
                return self._record(recorder, oracle, low)
            self._give_up(oracle, reason)
            return False
        cost = oracle.forwards - before[0], oracle.backwards - before[1]
        oracle.forwards, oracle.backwards = before
        self._recordings[low] = _Recording(replay, *cost)
        return True

    def _fuse(self, compiler: Compiler, oracle: SteppedOracle, low: bool) -> None:
        """Have the steps fused, to be rehearsed and recorded anew."""
        began = time.monotonic()
        try:
            self._fused[low] = fuse(self.attack, oracle, self._buffers, compiler)
        except Exception as error:  # there may be no compiler, and what a compiler may say has no end
            self.compiler, self.unfused = None, _said(error)
            return
        self.fusing = (self.fusing or 0.0) + time.monotonic() - began
        self._rehearsed.discard(low)
        self._recordings.pop(low, None)

    def _replay(self, recorder: Recorder, recording: _Recording, low: bool) -> None:
        """Take recorded steps; the last before they are fused and the first after it on the clock."""
        fused = low in self._fused
        if self.compiler is not None and not fused and self.taken[low] + self.attack.period >= self.patience:
            self._before[low] = recording, recorder.seconds(recording.replay)
        elif fused and low in self._before:
            pace, now = self._before[low][1], recorder.seconds(recording.replay)
            if now > pace:
                steps = f"{self.attack.period} steps"
                self._unfuse(low, f"{steps} take {1e3 * now:.1f} ms fused, {1e3 * pace:.1f} as they are")
            self._before.pop(low, None)
        else:
            recording.replay()

    def _unfuse(self, low: bool, reason: str) -> bool:
        """Go back to steps that are not fused; whether they were."""
        if self._fused.pop(low, None) is None:
            return False
        self.compiler, self.unfused = None, reason
        if low in self._before:
            self._recordings[low] = self._before.pop(low)[0]
        return True

    def _begin(self, oracle: SteppedOracle, state: Any) -> None:
        if self._oracle is not None:  # else it goes on where a snapshot ended
            self.taken = [0, 0]
        self._oracle = oracle
        oracle.on_host = False
        self._buffers = replace(state, **{f.name: getattr(state, f.name).clone() for f in fields(state)})
        self._rehearsed.clear()
        self._recordings.clear()
        self._fused.clear()
        self._before.clear()

    def _give_up(self, oracle: SteppedOracle, reason: str) -> None:
        self.recorder, self.refused = None, reason
        self._recordings.clear()
        oracle.on_host = oracle.problem.x.device.type == "cpu"

    def _low(self, problem: Problem, state: Any) -> bool:
        """Return whether no busy slot needs float32 before the next synchronisation (idle: a negative best)."""
        if self.refining is None:
            return False
        exact = self.refining.needs_float32(problem, state, self.attack.period)
        return not bool((exact & (problem.best >= 0)).any())

    def _straight(self, oracle: SteppedOracle, state: Any) -> Any:
        for _ in range(self.attack.period):
            state = self.attack.step(oracle, oracle.problem, state)
        if oracle.forward.deferred:
            oracle.confirm()
        return state

    def _as_they_are(self, oracle: SteppedOracle, state: Any) -> Any:
        """Take the steps eagerly, each slot in the precision that it needs at each step."""
        if self.refining is None:
            return self._straight(oracle, state)
        problem = oracle.problem
        for _ in range(self.attack.period):
            busy = problem.best >= 0
            low = ~self.refining.needs_float32(problem, state) & busy
            oracle.forward.choose(low | (low.any() & ~busy))  # an idle slot is no reason to ask both networks
            state = self.attack.step(oracle, problem, state)
        return state


def stepper_for(attack: Attack, networks: Networks, device: torch.device) -> Stepper:
    """Return the stepper of an attack on a device: eager on a CPU, recorded and in the end fused on a GPU."""
    return Stepper(attack, networks, recorder_for(device), compiler_for(device))


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def write(state: Any, buffers: Any) -> None:
    """Copy a state into the tensors of another, of which some may be its own, or each other's."""
    into = {f.name: getattr(buffers, f.name) for f in fields(buffers)}
    addresses = {_address(tensor) for tensor in into.values()}
    values: dict[str, Tensor] = {}
    for name, buffer in into.items():
        value: Tensor = getattr(state, name)
        if value is not buffer:
            # What lies in a buffer itself may be overwritten before it is read.
            values[name] = value.clone() if _address(value) in addresses else value
    for name, value in values.items():
        into[name].copy_(value)


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
