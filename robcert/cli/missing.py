"""What a call needs and lacks: named all at once, with the same call in which it is there."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from robcert.cli.given import Given
from robcert.errors import RobcertError, UsageError

_WEIGHTS = ("safetensors", "state_dict")
_EPS = {"l2": "0.5", "linf": "8/255", "l1": "5"}
_ARCH = "torchvision:resnet18"


@dataclass(frozen=True)
class _Need:
    """An option that is missing, a value for the example, and why it is needed."""

    flag: str
    example: str
    why: str


def check_missing(context: Any) -> None:
    """Refuse a call that lacks what its command cannot do without.

    Args:
        context: of the command, its parameters parsed.

    Raises:
        UsageError: it names all that is missing, and an example: the call with all of it.
    """
    given = Given(context)
    needs = _needs(context, given)
    if not needs:
        return
    flags = [need.flag for need in needs]
    listed = " and ".join(filter(None, (", ".join(flags[:-1]), flags[-1])))
    reasons = "; ".join(dict.fromkeys(need.why for need in needs if need.why))
    found = f"{listed} {'is' if len(flags) == 1 else 'are'} missing" + (f": {reasons}" if reasons else "")
    added = [word for need in needs for word in (need.flag, need.example)]
    raise UsageError(found, f"Example: {shlex.join([*_typed(context, given), *added])}")


def _needs(context: Any, given: Given) -> list[_Need]:
    name, options = context.command.name, {param.name for param in context.command.params}
    needs: list[_Need] = []
    if "arch" in options and (name != "gate" or given["init"]):
        needs += _of_models(given, with_data=_reads_data(given, options))
    if name in ("attack", "certify") and given["eps"] is None:
        needs.append(_Need("--eps", _EPS.get(given["norm"], "0.5"), ""))
    return needs


def _reads_data(given: Given, options: set[str | None]) -> bool:
    return "data" in options and not (given["images"] and given["threshold_from"])


def _of_models(given: Given, with_data: bool) -> list[_Need]:
    """What the files of the models do not say; where one cannot be read, loading it says what is wrong with it."""
    from robcert.network import peek_card
    from robcert.network.detect import detect
    from robcert.network.libraries import split
    from robcert.network.zoo import resolve

    found: dict[str, _Need] = {}
    for reference in given.references:
        try:
            kind, card = detect(resolve(reference)[0]), peek_card(reference)
        except RobcertError:
            continue
        arch = given["arch"] or (card and card.architecture)
        shape = given["input_shape"] or (card and card.input_shape)
        if kind in _WEIGHTS and not arch:
            why = f"{reference} holds weights, and nothing in it says of which network"
            found.setdefault("arch", _Need("--arch", _ARCH, why))
        if with_data and not given["data"] and not (card and card.data):
            why = f"{reference} has no card that names its data"
            found.setdefault("data", _Need("--data", "npz:images.npz", why))
        known = kind in ("onnx", "torch_export") or bool(arch and split(arch))
        if not (with_data or shape or known):
            why = f"{reference} does not say the shape of an image"
            found.setdefault("shape", _Need("--input-shape", "3,224,224", why))
    return [found[key] for key in ("arch", "shape", "data") if key in found]


def _typed(context: Any, given: Given) -> list[str]:
    """The call as it was typed: arguments, then options."""
    arguments: list[str] = []
    options: list[str] = []
    for param in context.command.params:
        value = given[param.name]
        if given.strength(param.name) != 0 or value is None:
            continue
        texts = [str(one) for one in value] if isinstance(value, (list, tuple)) else [str(value)]
        if param.param_type_name == "argument":
            arguments += texts
        elif param.is_flag:
            options.append(param.opts[0] if value else param.secondary_opts[0])
        else:
            options += [word for text in texts for word in (param.opts[0], text)]
    return ["robcert", context.command.name, *arguments, *options]
