"""``robcert.verify``: properties of networks, answered with a counterexample or a proof."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from robcert.accel.allocator import keep_memory
from robcert.errors import UsageError, did_you_mean
from robcert.runs.plan import build, parse_plan, plan_without_gradient
from robcert.runs.records.verify import AnswerRecord, VerifyRecord, answer_record
from robcert.runs.task import task
from robcert.search.snapshot import Snapshot
from robcert.types import LoadedModel
from robcert.verification import Property
from robcert.verification.answer import ARITHMETICS, Arithmetic
from robcert.verification.file import File
from robcert.verification.parse import read_vnnlib
from robcert.verification.search import Leg
from robcert.verification.solve import around, solve

PLAN = "pgd:20x8,pgd:100x32,apgd:100x16"
"""The attacks of the search, in l-infinity, where none are named."""

TIMEOUT = 60.0
"""Seconds for an instance, where nothing else is said."""


@dataclass(frozen=True)
class Instance:
    """A property of a network, and how long its answer may take.

    Attributes:
        model: the network.
        path: the file of the property.
        timeout: wall-clock seconds.
        named: what records call the property.
    """

    model: LoadedModel
    path: Path
    timeout: float = TIMEOUT
    named: str = ""

    @cached_property
    def sha256(self) -> str:
        """Of the file of the property."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


def verify(
    model: LoadedModel | Sequence[LoadedModel],
    prop: str | Path | Sequence[str | Path],
    *,
    timeout: float = TIMEOUT,
    plan: str | None = None,
    arithmetic: Arithmetic = "executed",
    seed: int = 0,
    run: str | Path | None = None,
    cpu_threads: int | None = None,
    answered: Callable[[AnswerRecord], None] = lambda _: None,
    said: Callable[[str], None] = lambda _: None,
) -> VerifyRecord:
    """Answer properties of networks: sat with a counterexample, unsat with a proof, unknown, or timeout.

    A property asks for an input in a box whose outputs fulfil constraints. The outputs are those of the file, the
    inputs too: a counterexample counts once executing the file, with onnxruntime where it is ONNX, has confirmed it.

    Args:
        model: one network or several (`robcert.load_model`); each is asked about every property. ``box`` of a network
            is where its rounding was measured; properties may speak of other inputs.
        prop: the files of properties (VNN-LIB 1.0).
        timeout: wall-clock seconds for each answer; the answer after that is "timeout".
        plan: attacks of the search in l-infinity, "attack:iterations[xrestarts]" with commas.
        arithmetic: of which network "unsat" speaks: the executed float32 one, or that in real arithmetic, of which the
            competition's files speak. "sat" is always confirmed by executing the file.
        seed: of random starts.
        run: the run directory; a run of the same specification found there goes on.
        cpu_threads: by default as many as torch uses.
        answered: is told each answer.
        said: is told what is tried next.

    Returns:
        The answers, in the order of the networks and then of the properties.

    Raises:
        UsageError: a property cannot be read (its line is named), or speaks of a network of another size.
        EvaluationError: a network cannot be evaluated, or a proof and a counterexample contradict each other.
    """
    models = [model] if isinstance(model, LoadedModel) else list(model)
    paths = [prop] if isinstance(prop, (str, Path)) else list(prop)
    asked = [Instance(one, Path(path), timeout, str(path)) for one, path in itertools.product(models, paths)]
    return verify_instances(
        asked,
        plan=plan,
        arithmetic=arithmetic,
        seed=seed,
        run=run,
        cpu_threads=cpu_threads,
        answered=answered,
        said=said,
    )


def verify_instances(
    instances: Sequence[Instance],
    *,
    plan: str | None = None,
    arithmetic: Arithmetic = "executed",
    seed: int = 0,
    run: str | Path | None = None,
    cpu_threads: int | None = None,
    answered: Callable[[AnswerRecord], None] = lambda _: None,
    said: Callable[[str], None] = lambda _: None,
) -> VerifyRecord:
    """Answer properties, each of its own network within its own time; for the rest see `verify`."""
    if arithmetic not in ARITHMETICS:
        raise UsageError(f"unknown arithmetic {arithmetic!r}", did_you_mean(arithmetic, ARITHMETICS))
    for one in instances:
        if not (math.isfinite(one.timeout) and one.timeout > 0):
            raise UsageError(f"a timeout is {one.timeout:g}, but it is a number of seconds above 0")
    props = [_read(one) for one in instances]
    named = legs_of(plan or PLAN)
    options = {
        "instances": [{"property": one.sha256, "timeout": one.timeout} for one in instances],
        "plan": [leg.name for leg in named],
        "arithmetic": arithmetic,
        "seed": seed,
    }
    keep_memory()
    known: dict[int, tuple[LoadedModel, File]] = {}
    found: list[AnswerRecord] = []
    with task("verify", run, [one.model for one in instances], [], options, cpu_threads) as work:
        for number, (one, prop) in enumerate(zip(instances, props, strict=True)):

            def make(one: Instance = one, prop: Property = prop) -> Snapshot:
                if id(one.model) not in known:
                    own = [prop for other, prop in zip(instances, props, strict=True) if other.model is one.model]
                    known[id(one.model)] = around(one.model, own), File.of(one.model)
                model, file = known[id(one.model)]
                legs = legs_of(plan_without_gradient("linf")) if one.model.no_gradient and plan is None else named
                answer = solve(
                    model,
                    file,
                    prop,
                    legs,
                    seconds=one.timeout,
                    arithmetic=arithmetic,
                    seed=seed,
                    said=said,
                )
                record = answer_record(one.model, one.named or str(one.path), one.sha256, one.timeout, answer)
                return Snapshot({}, record.model_dump())

            found.append(AnswerRecord.model_validate(work.part(str(number), make).meta))
            answered(found[-1])
        record = VerifyRecord(arithmetic=arithmetic, plan=[leg.name for leg in named], seed=seed, answers=found)
        work.finish(record)
    return record


def legs_of(plan: str) -> list[Leg]:
    """Return the attacks of a plan.

    Raises:
        UsageError: one is unknown, or does not work in l-infinity.
    """
    return [Leg(str(leg), build(leg, "linf", {}), leg.restarts) for leg in parse_plan(plan, "linf")]


def _read(one: Instance) -> Property:
    prop, entries = read_vnnlib(one.path), math.prod(one.model.input_shape)
    if (prop.inputs, prop.outputs) != (entries, one.model.num_classes):
        raise UsageError(
            f"{one.path} is about {prop.inputs} inputs and {prop.outputs} outputs, and {one.model.name} has {entries} "
            f"and {one.model.num_classes}",
            "Give the network that the property was written for.",
        )
    return prop


__all__ = ["PLAN", "TIMEOUT", "Instance", "verify", "verify_instances"]
