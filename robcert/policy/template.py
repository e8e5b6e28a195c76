"""A policy to start from, with numbers that a measurement suggests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from string import Template

import tomli_w

from robcert.errors import EvaluationError, UsageError
from robcert.policy.evaluate import How, load_inputs
from robcert.policy.load import Source
from robcert.policy.reason import percent
from robcert.policy.schema import ModelEntry, Policy, Requirement, duration
from robcert.policy.start import ASKED, Measured, measure
from robcert.runs.plan import LegPlan, swept
from robcert.types import ThreatNorm

START_SECONDS = 120.0
"""The time budget of a first policy, where none is named."""

_HEAD = Template("""\
# What has to hold of this model. `robcert gate` checks it; exit code 0: it holds.
# Measured: $measured.
# Each limit is what so many images show at 95 % confidence, with room for one image in a hundred that another machine
# decides otherwise: a start, to be tightened by hand.
[gate]
models = $models
data = $data
${said}n = $n                        # images, a stratified sample; leave it out for all $whole
time_budget = "$budget"          # attacks end by then: what they leave undecided is inconclusive, exit code 1
# baseline = "baseline.json"  # written by robcert gate --update-baseline, for the last requirement
""")
_NATURAL = Template("""
[[gate.require]]
name = "right without an attack"
natural_accuracy = $limit # measured: $share
""")
_ATTACKED = Template("""
[[gate.require]]
name = "robust at $norm $eps"
norm = "$norm"
eps = $eps                    # in the units of the data
attacked_accuracy = $limit # measured: $share
plan = "$plan"
""")
_CONVERGED = "# require_converged = true    # a sweep that is still falling fails\n"
_UNFINISHED = Template("# $legs did not end in a third of the time budget: give --init a longer one\n")
_CERTIFIED = Template("""
[[gate.require]]
name = "certified at $norm $eps"
norm = "$norm"
eps = $eps
certified_accuracy = $limit # measured: $share
""")
_DROP = Template("""
# No image may be lost against the model before. Needs the baseline above.
# [[gate.require]]
# name = "no regression"
# norm = "$norm"
# eps = $eps
# attacked_accuracy_drop = 0.02
# plan = "$plan"
""")


@dataclass(frozen=True)
class Chosen:
    """The images of a first policy, by the keys of a policy: at most ``n`` of them (none: as many as it needs)."""

    data: str | None = None
    split: str = "test"
    n: int | None = None
    seed: int = 0
    class_order: str | None = None

    def said(self) -> str:
        """Return a line of a policy for each of split, seed and class order that is not as a policy has it anyway."""
        lines = {"split": self.split, "seed": self.seed, "class_order": self.class_order}
        plain = Chosen()
        return "".join(f"{key} = {_toml(value)}\n" for key, value in lines.items() if value != getattr(plain, key))


@dataclass(frozen=True)
class Start:
    """A policy as text, and what was measured for it."""

    text: str
    measured: str


def starting_policy(
    model: ModelEntry,
    chosen: Chosen,
    norm: ThreatNorm,
    how: How,
    time_budget: float = START_SECONDS,
) -> Start:
    """Measure a model within a time and write a policy that it holds (`robcert.policy.start`).

    Args:
        model: the model, and what its file does not say.
        chosen: the images.
        norm: of the requirements.
        how: devices, who is told.
        time_budget: seconds.

    Raises:
        UsageError: the model or the data do not exist or do not fit.
        EvaluationError: the time is too short, or nothing can be asked of the model.
    """
    probe = Policy(
        models=(model,),
        require=(Requirement(kind="natural_accuracy", limit=0.5, name="natural"),),
        data=chosen.data,
        split=chosen.split,
        n=chosen.n or ASKED,
        seed=chosen.seed,
        class_order=chosen.class_order,
    )
    inputs = load_inputs(Source(probe, Path("robcert.toml"), (1,)), how)
    found = measure(inputs, norm, time_budget, how, chosen.seed)
    asked = _requirements(found, norm)
    if not asked:
        raise EvaluationError(
            f"{inputs.models[0].name} answers {found.natural} of {found.n} images rightly: too few",
            "Check that the data, the order of its classes and the normalisation are those of the model",
        )
    measured = f"{found.n} images, {_written(found.plan)}"
    head = _HEAD.substitute(
        models=_models(model),
        said=chosen.said(),
        data=_toml(chosen.data or inputs.data.name),
        measured=measured,
        n=found.n,
        whole=inputs.of,
        budget=duration(time_budget),
    )
    drop = _DROP.substitute(norm=norm, eps=f"{found.eps:g}", plan=_written(found.plan))
    return Start(head + asked + drop, measured)


def write_policy(path: Path, start: Start) -> None:
    """Write a new policy.

    Raises:
        UsageError: there is a file of that name, or it cannot be written.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(start.text)
    except FileExistsError:
        raise UsageError(f"{path} exists already", "Name another file with --policy, or remove it") from None
    except OSError as error:
        raise UsageError(f"cannot write {path} ({error.strerror})") from None


def _requirements(found: Measured, norm: ThreatNorm) -> str:
    """Return a table for each count that shows a share above 0."""
    further = _CONVERGED if swept(found.plan) else ""
    if found.unfinished:
        further += _UNFINISHED.substitute(legs=_written(found.unfinished))
    counts = ((_NATURAL, found.natural, ""), (_ATTACKED, found.attacked, further), (_CERTIFIED, found.certified, ""))
    text = ""
    for template, count, after in counts:
        if (limit := found.limit(count)) > 0:
            share, plan = percent(count / found.n), _written(found.plan)
            text += template.substitute(norm=norm, eps=f"{found.eps:g}", limit=limit, share=share, plan=plan) + after
    return text


def _written(legs: tuple[LegPlan, ...]) -> str:
    return ",".join(map(str, legs))


def _models(entry: ModelEntry) -> str:
    """The list of one model: its path, or a table where more was said of it."""
    said = {key: getattr(entry, key) for key in ModelEntry.model_fields if key in entry.model_fields_set}
    if list(said) == ["path"]:
        return _toml([entry.path])
    return "[{ " + ", ".join(f"{key} = {_toml(value)}" for key, value in said.items()) + " }]"


def _toml(value: object) -> str:
    return tomli_w.dumps({"x": value}, multiline_strings=False).partition("=")[2].strip()
