"""The weights of a network in a checkpoint, found by what the network needs, whatever stands around them.

A checkpoint is read as one table: the path of every tensor, its keys and list positions joined by dots
(``state_dict.0.module.conv1.weight``). Where a beginning of these paths, followed by the names of the network's own
tensors, gives every one of them with its shape, the weights are found: a wrapper (``state_dict``), a place in a list
and a prefix (``module.``, ``backbone.``) are the same thing, and nothing has to be known by name.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from robcert.errors import EvaluationError, UsageError, did_you_mean

_COMPILED = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"})
"""Parts of a name that torch.compile, FSDP and checkpointing put anywhere into it."""

_PARALLEL = _COMPILED | {"module"}
"""Likewise DataParallel; a network may also have a part that is really called module."""

_AVERAGED = frozenset({"ema", "swa", "avg", "averaged", "average", "teacher"})
_MOST = 2**20
_TRIED = 32
"""Places that are looked at in full: those that have the most of the wanted names."""


@dataclass(frozen=True)
class Tensors:
    """All tensors of a checkpoint, in its order.

    Attributes:
        where: how a message calls the file.
        values: by path.
        holders: the path of the mapping or list that holds each.
        said: whether the user named a place with --weights-key.
        versions: of the modules that the file was saved from, by path: torch notes them beside a state_dict, and a
            module may read old weights in another way.
    """

    where: str
    values: dict[str, Tensor]
    holders: dict[str, str]
    said: bool = False
    versions: dict[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True)
class Weights:
    """A place in a checkpoint, and how well what is there fits the network.

    Attributes:
        place: the path in front of the names of the network's tensors, with its last dot; "" at the top.
        names: every path of the checkpoint as it was understood (without what a compiler put into it) -> itself.
        paths: name in the network -> path in the checkpoint, of all that are there.
        missing: names that are not there.
        misshapen: names of another shape.
    """

    place: str
    names: dict[str, str]
    paths: dict[str, str]
    missing: tuple[str, ...]
    misshapen: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """True if every tensor of the network is there, with its shape."""
        return not self.missing and not self.misshapen

    @property
    def nearness(self) -> tuple[int, int]:
        """Larger where more fits."""
        return len(self.paths) - len(self.misshapen), len(self.paths)

    @property
    def averaged(self) -> bool:
        """True if the place is called as averages over the training are: ema, model_ema, swa."""
        return any(word in _AVERAGED for word in self.place.lower().replace("_", ".").split("."))


def tensors_of(found: Any, where: str, key: str | None = None) -> Tensors:
    """Return the tensors of a checkpoint: mappings, lists and tuples in any depth.

    Args:
        found: what the file holds.
        where: the file.
        key: only what is below this path, e.g. "state_dict_ema", "state_dict.0" or "models[1]".

    Raises:
        UsageError: there is nothing below ``key``.
        EvaluationError: there is no tensor.
    """
    values: dict[str, Tensor] = {}
    holders: dict[str, str] = {}
    versions: dict[str, int] = {}
    for path, holder, value in _walk(found, "", (), versions):
        if len(values) >= _MOST:
            raise EvaluationError(f"{where} holds more than {_MOST:,} tensors")
        if path in values and value is not values[path]:
            raise EvaluationError(f"{where} holds two tensors that are called {path}")
        values[path], holders[path] = value, holder
    if not values:
        keys = ", ".join(str(key) for key in list(found)[:5]) if isinstance(found, Mapping) else ""
        raise EvaluationError(
            f"{where} holds no tensors where a state_dict is expected (found: {keys or 'nothing'})",
            "Save it again: torch.save(model.state_dict(), 'model.pt').",
        )
    if key is None:
        return Tensors(where, values, holders, versions=versions)
    below = re.sub(r"\[['\"]?([^\]'\"]*)['\"]?\]", r".\1", key).strip(".")
    kept = {path: value for path, value in values.items() if f"{path}.".startswith(f"{below}.")}
    if not kept:
        depth = below.count(".") + 1
        known = {".".join(path.split(".")[:depth]) for path in values}
        raise UsageError(f"{where} holds no tensors under --weights-key {key}", did_you_mean(below, sorted(known)[:20]))
    return Tensors(where, kept, {path: holders[path] for path in kept}, True, versions)


def find(module: nn.Module, tensors: Tensors) -> list[Weights]:
    """Return every place that has all weights of the network, the most usual first; the nearest miss where none has.

    The most usual is what was trained rather than averaged, then what is nearest to the top, then what comes first.
    """
    expected = expected_shapes(module)
    twins = _twins(module)
    nearest: list[Weights] = []
    for dropped in (frozenset[str](), _COMPILED, _PARALLEL):
        names = _understood(tensors.values, dropped)
        found = [_at(place, names, tensors, expected, twins) for place in _places(names, tensors, expected)]
        if fitting := [one for one in found if one.fits]:
            return sorted(fitting, key=lambda one: (one.averaged, one.place.count(".")))
        nearest += found or [_at("", names, tensors, expected, twins)]
    return [max(nearest, key=lambda one: one.nearness)]


def expected_shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of the tensors that a network saves."""
    state: Mapping[str, Any] = module.state_dict()
    return {name: tuple(value.shape) for name, value in state.items() if isinstance(value, Tensor)}


def same(first: Weights, second: Weights, tensors: Tensors) -> bool:
    """Return whether two places that fit hold the same weights."""
    both = [(path, second.paths[name]) for name, path in first.paths.items() if name in second.paths]
    return all(torch.equal(tensors.values[here], tensors.values[there]) for here, there in both)


def is_counter(name: str) -> bool:
    """Counters that change no answer: batches seen by a BatchNorm, models averaged by AveragedModel."""
    return name.rpartition(".")[2] in ("num_batches_tracked", "n_averaged")


def versions_for(module: nn.Module, weights: Weights, tensors: Tensors) -> dict[str, dict[str, Any]]:
    """Return what torch notes beside a state_dict: the version of every module, as the file says where it says it."""
    noted: Any = getattr(module.state_dict(), "_metadata", {})
    versions: dict[str, dict[str, Any]] = {name: dict(own) for name, own in noted.items()}
    for name, path in weights.paths.items():
        # The modules around a tensor have the same last parts in the network and in the file.
        while name and name.rpartition(".")[2] == path.rpartition(".")[2]:
            name, path = name.rpartition(".")[0], path.rpartition(".")[0]
            if name in versions and path in tensors.versions:
                versions[name]["version"] = tensors.versions[path]
    return versions


def _walk(found: Any, path: str, above: tuple[int, ...], versions: dict[str, int]) -> Iterator[tuple[str, str, Tensor]]:
    """Path, holder and value of every tensor; what holds itself is entered once."""
    if isinstance(found, dict):
        entries: Any = dict.items(found)  # an attribute of that name may come from the file
        noted: Any = vars(found).get("_metadata") if isinstance(found, OrderedDict) else None
        for name, own in dict.items(noted) if isinstance(noted, dict) else ():
            if isinstance(name, str) and isinstance(own, dict) and type(dict.get(own, "version")) is int:
                versions[".".join(part for part in (path, name) if part)] = own["version"]
    elif isinstance(found, Mapping):
        entries = found.items()
    elif isinstance(found, (list, tuple)):
        entries = enumerate(found)
    else:
        return
    if id(found) in above or len(above) > 32:
        return
    for key, value in entries:
        name = f"{path}.{key}" if path else str(key)
        if isinstance(value, Tensor):
            yield name, path, value
        else:
            yield from _walk(value, name, (*above, id(found)), versions)


def _understood(paths: Iterable[str], dropped: frozenset[str]) -> dict[str, str]:
    """Paths without the parts ``dropped`` -> paths; as they are where two would become one."""
    paths = list(paths)
    names = {".".join(part for part in path.split(".") if part not in dropped): path for path in paths}
    return names if len(names) == len(paths) else {path: path for path in paths}


def _places(names: Mapping[str, str], tensors: Tensors, expected: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Return the places that may hold the network, in the order of the file: those where the most fits."""
    counts: dict[str, list[int]] = {}
    for name, path in names.items():
        cut = 0
        while cut >= 0:
            if name[cut:] in expected:
                count = counts.setdefault(name[:cut], [0, 0])
                count[0] += tuple(tensors.values[path].shape) == expected[name[cut:]]
                count[1] += 1
            cut = name.find(".", cut) + 1 or -1
    best = set(sorted(counts, key=lambda place: counts[place], reverse=True)[:_TRIED])
    return [place for place in counts if place in best]


def _at(
    place: str,
    names: dict[str, str],
    tensors: Tensors,
    expected: Mapping[str, tuple[int, ...]],
    twins: Mapping[str, frozenset[str]],
) -> Weights:
    paths = {name: names[place + name] for name in expected if place + name in names}
    missing = [name for name in expected if name not in paths and not is_counter(name)]
    return Weights(
        place,
        names,
        paths,
        tuple(name for name in missing if not twins.get(name, frozenset()) & paths.keys()),
        tuple(
            name
            for name, path in paths.items()
            if not is_counter(name) and tuple(tensors.values[path].shape) != expected[name]
        ),
    )


def _twins(module: nn.Module) -> dict[str, frozenset[str]]:
    """Return the names of one and the same tensor: a file may hold it once (safetensors does)."""
    groups: dict[tuple[int, tuple[int, ...]], set[str]] = {}
    for name, value in module.state_dict().items():
        if isinstance(value, Tensor) and value.numel():
            groups.setdefault((value.data_ptr(), tuple(value.shape)), set()).add(name)
    return {name: frozenset(group) for group in groups.values() if len(group) > 1 for name in group}
