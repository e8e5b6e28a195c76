"""Weights and the name of an architecture become a network, or one message that says what does not fit."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from robcert.errors import EvaluationError, RobcertError, first_line
from robcert.network import architecture as architectures
from robcert.network import graph_files
from robcert.network.adapt import logits_key
from robcert.network.match import Tensors, Weights, expected_shapes, find, is_counter, same, versions_for
from robcert.network.request import Request
from robcert.network.weights import check_finite, check_sizes, guess_classes

_LISTED = 6
_TRAINING = ("criterion", "loss", "metric", "accuracy")
_NORMALISATION = ("normaliz", "normalis", "preprocess")
_NO_WEIGHTS = ("optim", "sched", "scaler", "rng")


@dataclass(frozen=True)
class ReadNetwork:
    """A network with its weights.

    Attributes:
        module: as it was saved; not folded, not normalised.
        input_shape: with which it was built; None where the architecture did not need one.
        notes: what was decided: which of several sets of weights were taken, which tensors were not used.
    """

    module: nn.Module
    input_shape: tuple[int, ...] | None
    notes: tuple[str, ...] = ()


def load_weights(tensors: Tensors, request: Request, shapes: Sequence[tuple[int, ...] | None] = (None,)) -> ReadNetwork:
    """Build a network and load its weights.

    The number of classes is that of the weights unless ``request`` demands one, and the input shape is the first of
    ``shapes`` with which the weights fit.

    Args:
        tensors: what the file holds.
        request: the architecture; its ``guess`` is a number of classes to begin with.
        shapes: input shapes to build it with.

    Raises:
        UsageError: there is no such architecture, or it needs something that is not known.
        EvaluationError: it cannot be built, or the weights do not fit.
    """
    failed: RobcertError | None = None
    request = replace(request, held=frozenset(tensors.values))
    for shape in shapes:
        try:
            return _load(tensors, replace(request, input_shape=shape))
        except RobcertError as error:
            failed = failed or error
    assert failed is not None
    raise failed


def running_shape(module: nn.Module, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the first shape of an input that a network runs on; the first of all where it runs on none."""
    module.eval()
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    with torch.no_grad(), torch.random.fork_rng(devices=[]), graph_files.without_deprecations():
        for shape in shapes:
            try:
                answer: Any = module(torch.zeros(1, *shape, dtype=dtype))
                if logits_key(answer, 1) is not None or answer.dim() == 2:
                    return shape
            except Exception:  # whatever a network says to an input that is none of its own
                continue
    return shapes[0]


def _load(tensors: Tensors, request: Request) -> ReadNetwork:
    guess = guess_classes(tensors.values)
    try:
        module, found = _built(tensors, request)
    except EvaluationError:
        # The classes of the data may be fewer than an architecture can have.
        if request.num_classes is not None or guess is None or guess == request.guess:
            raise
        module, found = _built(tensors, replace(request, guess=guess))
    if request.num_classes is None and not found[0].fits:
        for classes in (_classes_of(module, found[0], tensors, request.guess), guess):
            if classes is None or found[0].fits:
                continue
            try:
                other, better = _built(tensors, replace(request, guess=classes))
            except EvaluationError:
                continue
            if better[0].nearness > found[0].nearness:
                module, found = other, better
    chosen, notes = _chosen(found, tensors)
    if not chosen.fits:
        raise _misfit(module, chosen, tensors, request.name)
    state = OrderedDict((name, tensors.values[path]) for name, path in chosen.paths.items())
    check_finite(state, tensors.where)
    notes += _surplus(module, found, tensors, request.name)
    state._metadata = versions_for(module, chosen, tensors)  # pyright: ignore (torch reads it there)
    try:
        module.load_state_dict(state, strict=False)
    except Exception as error:
        raise EvaluationError(
            f"the weights in {tensors.where} cannot be loaded into {request.name!r}: {first_line(error)}"
        ) from error
    return ReadNetwork(module, request.input_shape, tuple(notes))


def _built(tensors: Tensors, request: Request) -> tuple[nn.Module, list[Weights]]:
    module = architectures.build(request)
    return module, find(module, tensors)


def _classes_of(module: nn.Module, nearest: Weights, tensors: Tensors, guess: int | None) -> int | None:
    """Return the number of classes with which the shapes would fit, if one explains all that do not."""
    if nearest.missing:
        return None
    expected = expected_shapes(module)
    ratios: set[tuple[int, int]] = set()
    for name in nearest.misshapen:
        here, there = expected[name], tuple(tensors.values[nearest.paths[name]].shape)
        if len(here) != len(there) or here[1:] != there[1:] or not here:
            return None
        ratios.add((here[0], there[0]))
    if len(ratios) != 1:
        return None
    ((here, there),) = ratios
    each = here // guess if guess and here % guess == 0 else 1  # rows of the last layer for one class
    return there // each if there % each == 0 and there // each >= 2 else None


def _chosen(found: list[Weights], tensors: Tensors) -> tuple[Weights, list[str]]:
    """Return the first of the places, and a note where another one has other weights."""
    first = found[0]
    for one in found:
        check_sizes({path: tensors.values[path] for path in one.paths.values()}, tensors.where)
    others = [one for one in found[1:] if not same(first, one, tensors)]
    if not others:
        return first, []
    listed = ", ".join(_place(one) for one in others[:_LISTED])
    return first, [
        f"{tensors.where} holds {len(others) + 1} sets of weights that fit: {_place(first)} was taken, --weights-key "
        f"takes another ({listed})"
    ]


def _misfit(module: nn.Module, nearest: Weights, tensors: Tensors, architecture: str) -> EvaluationError:
    expected = expected_shapes(module)
    beside = [name for name, path in _inside(nearest).items() if path not in set(nearest.paths.values())]
    lines = [
        f"{len(items)} {kind}: {'; '.join(items[:3])}{'; ...' if len(items) > 3 else ''}"
        for kind, items in (
            ("missing", list(nearest.missing)),
            ("unexpected", beside),
            (
                "of another shape",
                [
                    f"{name} is {tuple(tensors.values[nearest.paths[name]].shape)}, expected {expected[name]}"
                    for name in nearest.misshapen
                ],
            ),
        )
        if items
    ]
    under = f" under {_place(nearest)}" if nearest.place else ""
    return EvaluationError(
        f"the weights in {tensors.where} do not fit the architecture {architecture!r} "
        f"({len(expected)} tensors expected, {len(nearest.paths)} of them found{under})\n  " + "\n  ".join(lines),
        "Name the architecture that these weights were saved from with --arch"
        + (", and the number of classes with --classes." if nearest.misshapen else "."),
    )


def _surplus(module: nn.Module, found: Sequence[Weights], tensors: Tensors, architecture: str) -> list[str]:
    """Return a note on the tensors beside the network's own in the same state_dict, which are not used.

    Raises:
        EvaluationError: they may belong to the network.
    """
    chosen = found[0]
    used = {path for one in found for path in one.paths.values()}
    holders = {tensors.holders[path] for path in chosen.paths.values()}
    unused = {name: path for name, path in chosen.names.items() if path not in used and not is_counter(name)}
    beside = {name: path for name, path in unused.items() if tensors.holders[path] in holders}
    parts = {name.partition(".")[0] for name in expected_shapes(module)}
    start = chosen.place
    own = [
        path
        for name, path in beside.items()
        if name.startswith(start) and not _of_training(name[len(start) :], parts, tensors.values[path])
    ]
    if own:
        raise EvaluationError(
            f"all weights of {architecture!r} are in {tensors.where}, and {len(own)} more beside them: "
            f"{_listed(own, tensors)}",
            "If the network has them, name its whole architecture with --arch. If not (a loss, a helper of the "
            "training), leave them out when the weights are saved: del state[...].",
        )
    if not tensors.said and _matrices(beside.values(), tensors) > _matrices(chosen.paths.values(), tensors):
        raise EvaluationError(
            f"the weights of {architecture!r} are in {tensors.where} under {_place(chosen)}, but most of what is "
            f"beside them belongs to no part of it: {_listed(list(beside.values()), tensors)}",
            f"Name the whole architecture with --arch; or, if this is all of it: --weights-key {_place(chosen)}",
        )
    others = [path for name, path in unused.items() if name not in beside and _weighty(path, tensors)]
    told = [*beside.values(), *others]
    if not told:
        return []
    listed = _listed(told, tensors) + _normalisation(told, tensors)
    return [f"{tensors.where}: {len(told)} tensors were not used: {listed}"]


def _weighty(path: str, tensors: Tensors) -> bool:
    """Return whether a tensor of another part of a checkpoint may be the weight of a layer: none of an optimizer is."""
    return _long_axes(tensors.values[path]) > 1 and not any(word in path.lower() for word in _NO_WEIGHTS)


def _of_training(name: str, parts: set[str], value: Tensor) -> bool:
    """Return whether a tensor beside the network's is none of its weights: of a loss, a metric, a normalisation.

    Told by the name of a part that the network does not have, and only of tensors that no layer multiplies with.
    """
    part, _, rest = name.lower().partition(".")
    if not rest or name.partition(".")[0] in parts or _long_axes(value) > 1:
        return False
    if any(word in part for word in _NORMALISATION):
        return "mean" in rest or "std" in rest
    return any(word in part for word in _TRAINING)


def _normalisation(paths: Collection[str], tensors: Tensors) -> str:
    """Return the flags for a normalisation that the file holds and that the network does not apply."""
    flags: dict[str, str] = {}
    for path in paths:
        value, leaf = tensors.values[path], path.rpartition(".")[2].lower()
        for flag in ("mean", "std"):
            if flag in leaf and "running" not in leaf and value.numel() in (1, 3) and _long_axes(value) <= 1:
                flags[flag] = f"--{flag} " + ",".join(f"{v:.6g}" for v in value.flatten().tolist())
    return f". If they normalise the images: {' '.join(flags.values())}" if len(flags) == 2 else ""


def _inside(weights: Weights) -> dict[str, str]:
    """Return the tensors in the place of the network: names without the place -> paths."""
    start = weights.place
    return {n[len(start) :]: p for n, p in weights.names.items() if n.startswith(start) and not is_counter(n)}


def _place(weights: Weights) -> str:
    return weights.place.rstrip(".") or "the top level"


def _matrices(paths: Collection[str], tensors: Tensors) -> int:
    return sum(_long_axes(tensors.values[path]) > 1 for path in paths)


def _long_axes(value: Tensor) -> int:
    return sum(size != 1 for size in value.shape)


def _listed(paths: Sequence[str], tensors: Tensors) -> str:
    def one(path: str) -> str:
        return f"{path} {'x'.join(map(str, tensors.values[path].shape)) or 'scalar'}"

    return ", ".join(map(one, paths[:_LISTED])) + (", ..." if len(paths) > _LISTED else "")
