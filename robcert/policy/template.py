"""A policy to start from, with numbers that a quick measurement suggests."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from string import Template

import tomli_w

from robcert.errors import UsageError
from robcert.math.binomial import lower_bound
from robcert.policy.evaluate import How, load_inputs
from robcert.policy.load import Source
from robcert.policy.schema import ModelEntry, Policy, Requirement
from robcert.runs.api import attack
from robcert.runs.plan import default_attack, plan_without_gradient
from robcert.types import Threat, ThreatNorm

QUICK = 200
"""Images of the quick measurement; the policy asks for `ASKED`."""
ASKED = 500
_REACH: dict[ThreatNorm, float] = {"l2": 2.0, "linf": 0.3, "l1": 20.0}

_TEXT = Template("""\
# What has to hold of this model. `robcert gate` checks it; exit code 0: it holds.
# The numbers come from a quick measurement ($measured): a start, to be tightened by hand.
[gate]
models = $models
data = $data
${order}n = $n                        # images, a stratified sample; leave it out for all $whole
time_budget = "10m"
# baseline = "baseline.json"  # written by robcert gate --update-baseline, for the last requirement

[[gate.require]]
name = "right without an attack"
natural_accuracy = $natural

[[gate.require]]
name = "robust at $norm $eps"
norm = "$norm"
eps = $eps                    # in the units of the data
attacked_accuracy = $attacked # measured: $share
plan = "$plan"
# require_converged = true    # a sweep that is still falling fails
$certified
# No image may be lost against the model before. Needs the baseline above.
# [[gate.require]]
# name = "no regression"
# norm = "$norm"
# eps = $eps
# attacked_accuracy_drop = 0.02
# plan = "$plan"
""")
_CERTIFIED = Template("""
[[gate.require]]
name = "certified at $norm $eps"
norm = "$norm"
eps = $eps
certified_accuracy = $least
""")


@dataclass(frozen=True)
class Start:
    """A policy as text, and what was measured for it."""

    text: str
    measured: str


def starting_policy(
    model: ModelEntry, data: str | None, norm: ThreatNorm, how: How, class_order: Path | None = None
) -> Start:
    """Measure a model quickly and write a policy that it should hold.

    eps is half the median distance of the closest examples that a short search finds; each limit is the one-sided 99 %
    lower bound of what was measured, rounded down to 0.05.

    Raises:
        UsageError: the model or the data do not exist or do not fit.
    """
    probe = Policy(
        models=(model,),
        require=(Requirement(kind="natural_accuracy", limit=0.5, name="natural"),),
        data=data,
        n=QUICK,
        class_order=None if class_order is None else str(class_order),
    )
    inputs = load_inputs(Source(probe, Path("robcert.toml"), (1,)), how)
    images = inputs.data
    first = default_attack(norm)
    threat = Threat(norm, (_REACH[norm],), images.box)
    network = inputs.models[0]
    free = plan_without_gradient(norm) if network.no_gradient else ""
    record = attack(network, images, threat, free or f"{first}:100", goal="minimize", reporter=how.reporter)
    found = record.models[0]
    median = found.distance.median if found.distance.median else _REACH[norm]
    eps = _two_digits(median / 2)
    standing = sum(1 for one in found.images if one.distance is None or one.distance > eps)
    certified = sum(1 for one in found.images if (one.radius or 0.0) > eps)
    n = len(images)
    measured = f"{n} images, {free or f'{first} with 100 iterations'}"
    words = {"norm": norm, "eps": f"{eps:g}"}
    proven = _CERTIFIED.substitute(words, least=least) if (least := _least(certified, n)) > 0 else ""
    text = _TEXT.substitute(
        words,
        models=_models(model),
        order="" if class_order is None else f"class_order = {_toml(str(class_order))}\n",
        data=_toml(data or images.name),
        measured=measured,
        n=min(ASKED, inputs.of),
        whole=inputs.of,
        natural=_least(found.natural_correct, n) or 0.05,
        attacked=_least(standing, n) or 0.05,
        share=f"{100 * standing / n:.1f}%",
        plan=free.replace(" + ", ",") or f"pgd:20x2,{first}:100,1k",
        certified=proven,
    )
    return Start(text, measured)


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


def _models(entry: ModelEntry) -> str:
    """The list of one model: its path, or a table where more was said of it."""
    said = {key: getattr(entry, key) for key in ModelEntry.model_fields if key in entry.model_fields_set}
    if list(said) == ["path"]:
        return _toml([entry.path])
    return "[{ " + ", ".join(f"{key} = {_toml(value)}" for key, value in said.items()) + " }]"


def _two_digits(value: float) -> float:
    return float(f"{value:.2g}")


def _least(count: int, n: int) -> float:
    return math.floor(20 * lower_bound(count, n, 0.99)) / 20


def _toml(value: object) -> str:
    return tomli_w.dumps({"x": value}, multiline_strings=False).partition("=")[2].strip()
