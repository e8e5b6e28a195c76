"""Answers a property of a network: sat with a counterexample, unsat with a proof, unknown, or timeout.

What is cheap comes first: the first attack of the plan, Lipschitz constants, intervals and CROWN; then the rest of the
plan, alpha-CROWN, and branch and bound for the time that is left. Every counterexample is confirmed by executing the
file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from robcert.errors import EvaluationError
from robcert.types import LoadedModel
from robcert.verification import Property, Region
from robcert.verification.answer import Answer, Arithmetic, Result
from robcert.verification.clock import OutOfTime, limit
from robcert.verification.file import File
from robcert.verification.linear import METHODS, LinearProver, Status
from robcert.verification.lipschitz import LipschitzProver
from robcert.verification.outputs import answered
from robcert.verification.problem import Box, boxes, holds
from robcert.verification.search import Leg, candidates

SEARCH_SHARE = 0.4
"""Of the time, at most, for the attacks that come before the dear proofs."""


def around(model: LoadedModel, props: Sequence[Property]) -> LoadedModel:
    """Return a network with a box that contains those of some properties."""
    regions = [region for prop in props for region in prop.regions]
    low = min((min(region.low) for region in regions), default=0.0)
    high = max((max(region.high) for region in regions), default=1.0)
    slack = 2.0**-23 * max(abs(low), abs(high), 2.0**-100)
    return replace(model, box=(low - slack, high + slack))


def solve(
    model: LoadedModel,
    file: File,
    prop: Property,
    plan: Sequence[Leg],
    *,
    seconds: float,
    arithmetic: Arithmetic = "executed",
    seed: int = 0,
    said: Callable[[str], None] = lambda _: None,
) -> Answer:
    """Answer a property within a limit of time.

    Args:
        model: the network; its box contains those of the property (`around`).
        file: what stands behind it.
        prop: about its inputs and outputs.
        plan: attacks in l-infinity.
        seconds: wall-clock; the answer is "timeout" soon after.
        arithmetic: that of the network of which "unsat" speaks.
        seed: of random starts.
        said: is told what is tried next.

    Raises:
        EvaluationError: the network does not run, or a proof and a counterexample contradict each other.
    """
    began = time.monotonic()
    work = _Work(model, file, prop, plan, arithmetic, seed, said)
    try:
        with limit(seconds) as deadline:
            result = work.run(deadline, SEARCH_SHARE * seconds)
        if result == "unknown" and time.monotonic() > deadline:
            result = "timeout"
    except OutOfTime:
        result = "timeout"
    return work.answer(result, time.monotonic() - began)


@dataclass
class _Work:
    model: LoadedModel
    file: File
    prop: Property
    plan: Sequence[Leg]
    arithmetic: Arithmetic
    seed: int
    said: Callable[[str], None]
    by: str = ""
    counterexample: Tensor | None = None
    known: list[tuple[Box, dict[int, Status]]] = field(default_factory=list[tuple[Box, dict[int, Status]]])
    refused: list[str] = field(default_factory=list[str])
    unconfirmed: list[tuple[int, Region]] = field(default_factory=list[tuple[int, Region]])
    tried: list[str] = field(default_factory=list[str])

    def run(self, deadline: float, searching: float) -> Result:
        """Go through searches and proofs until one decides."""
        shape = tuple(self.model.input_shape)
        found = boxes(self.prop, shape, channels_last=self.file.channels_last)
        self.known = [(box, {k: Status() for k in range(len(box.cases))}) for box in found]
        if not found:
            self.by = "no input"
            return "unsat"
        until = min(deadline, time.monotonic() + searching)
        provers: dict[int, LinearProver] = {}
        steps: list[Callable[[], bool]] = [
            *(lambda leg=leg: self._attack(leg, until) for leg in self.plan[:1]),
            lambda: self._lipschitz(deadline),
            *(lambda name=name: self._linear(name, provers, deadline) for name in METHODS[:2]),
            *(lambda leg=leg: self._attack(leg, until) for leg in self.plan[1:]),
            *(lambda name=name: self._linear(name, provers, deadline) for name in METHODS[2:]),
        ]
        for step in steps:
            if step():
                break
            if time.monotonic() > deadline:
                break
        if self.counterexample is not None:
            return "sat"
        return "unsat" if all(self._proven(status) for _, status in self._cases()) else "unknown"

    def answer(self, result: Result, seconds: float) -> Answer:
        """Return what came of it.

        Raises:
            EvaluationError: a case was excluded in which an attack found a counterexample.
        """
        for place, case in self.unconfirmed:
            box, statuses = self.known[place]
            if statuses[box.cases.index(case)].executed:
                raise EvaluationError(
                    f"{self.by} excludes a case in which robcert's network has a counterexample",
                    "This is a defect of robcert: please report it with both files.",
                )
        real = all(status.real for _, status in self._cases())
        x, y = (), ()
        if result == "sat" and self.counterexample is not None:
            point = self.counterexample
            y = tuple(self.file.outputs(point)[0].tolist())
            x = tuple((point.movedim(1, -1) if self.file.channels_last else point).flatten().tolist())
        reason = self._reason(result, real)
        decided = self.by if result in ("sat", "unsat") else ""
        runtime = self.file.runtime if result == "sat" else ""
        return Answer(result, real and result != "sat", decided, x, y, runtime, reason, seconds)

    def _reason(self, result: Result, real: bool) -> str:
        match result:
            case "sat":
                confirmed = "" if self.file.runtime == "robcert" else f", confirmed by {self.file.runtime}"
                return f"{self.by} found a counterexample{confirmed}"
            case "unsat":
                if not self.known:
                    return "no case of the property has an input"
                return f"no case is left after {self.by}"
            case _:
                left = [number for number, (_, status) in enumerate(self._cases(), 1) if not self._proven(status)]
                many = len(self._cases())
                parts = [f"{len(left)} of {many} cases left" + (f", the first is {left[0]}" if left else "")]
                if real and self.arithmetic == "executed":
                    parts.append("in real arithmetic none")
                if self.unconfirmed:
                    parts.append(f"a counterexample of robcert was not confirmed by {self.file.runtime}")
                parts += dict.fromkeys(self.refused)
                return "; ".join(parts)

    def _cases(self) -> list[tuple[Box, Status]]:
        return [(box, status) for box, statuses in self.known for status in statuses.values()]

    def _proven(self, status: Status) -> bool:
        return status.executed or (status.real and self.arithmetic == "real")

    def _open(self, place: int) -> list[int]:
        return [number for number, status in self.known[place][1].items() if not self._proven(status)]

    def _ended(self) -> bool:
        return self.counterexample is not None or not any(self._open(place) for place in range(len(self.known)))

    def _confirmed(self, place: int, x: Tensor) -> bool:
        """Execute the file on an input (1, *input_shape) of a box."""
        box, statuses = self.known[place]
        for number, case in enumerate(box.cases):
            if self.file.confirms(case, x):
                self.counterexample, statuses[number].point = x, x
                return True
        return False

    def _attack(self, leg: Leg, until: float) -> bool:
        for place, (box, _) in enumerate(self.known):
            open_ = tuple(box.cases[number] for number in self._open(place))
            if not open_ or time.monotonic() > until:
                continue
            self.said(f"search: {leg.name}")
            part = replace(box, cases=open_)
            try:
                for x in candidates(self.model, self.file.head, part, leg, self.seed, until):
                    self.by = leg.name
                    if self._confirmed(place, x):
                        return True
                    self._note(place, open_, x)
            except EvaluationError as error:
                self.refused.append(error.found)
        return False

    def _note(self, place: int, open_: tuple[Region, ...], x: Tensor) -> None:
        """Keep the case in which robcert's network has a counterexample and the file none."""
        device = next((p.device for p in self.model.module.parameters()), torch.device("cpu"))
        with torch.no_grad():
            outputs = answered(self.file.head, self.model.module(x.to(device))).cpu()
        self.unconfirmed += [(place, case) for case in open_ if bool(holds(case, outputs)[0])]

    def _lipschitz(self, deadline: float) -> bool:
        if not self._provable():
            return False
        self.said("proof: Lipschitz constants")
        try:
            executed = self.arithmetic == "executed"
            prover = LipschitzProver(self.model, self.file.head, deadline, executed=executed)
        except EvaluationError as error:
            self.refused.append(f"no Lipschitz bound: {error.found}")
            return False
        for place, (box, statuses) in enumerate(self.known):
            for number in self._open(place):
                if prover.excludes(box, box.cases[number]):
                    statuses[number].real, statuses[number].executed, self.by = True, executed, "gap"
            for _, x in prover.candidates:
                if self._confirmed(place, x):
                    self.by = "gap"
                    return True
            prover.candidates.clear()
        return self._ended()

    def _linear(self, method: str, provers: dict[int, LinearProver], deadline: float) -> bool:
        if not self._provable():
            return False
        if self.file.head != "none":
            self.refused.append(f"linear bounds do not go through {self.file.head}")
            return False
        for place, (box, statuses) in enumerate(self.known):
            open_ = self._open(place)
            if not open_:
                continue
            self.said(f"proof: {method}")
            try:
                if place not in provers:
                    executed = self.arithmetic == "executed"
                    provers[place] = LinearProver(self.model, self.file, box, executed=executed)
                prover = provers[place]
                prover.prove(next(m for m in METHODS if m == method), statuses, deadline)
            except EvaluationError as error:
                self.refused.append(error.found)
                return False
            if prover.refused and self.arithmetic == "executed":
                self.refused.append(prover.refused)
            if len(self._open(place)) < len(open_):
                self.by = method
            found = next((status.point for status in statuses.values() if status.point is not None), None)
            if found is not None:
                self.counterexample, self.by = found, method
                return True
        return self._ended()

    def _provable(self) -> bool:
        if not self.file.exact:
            self.refused.append("the file computes with half precision, of which nothing is proven")
        return self.file.exact
