"""Artefacts of a run: adversarial examples and the network that they fool, readable without robcert."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch.export import ExportedProgram

from robcert.errors import EvaluationError
from robcert.graph.cache import graph_of
from robcert.network.export import export_pt2, exported_program
from robcert.network.fold import copy_module
from robcert.runs.files import explained
from robcert.runs.proof import Attempt
from robcert.runs.record import ModelRecord, RunSpec
from robcert.runs.store import RunStore
from robcert.runs.summary import as_list
from robcert.search.problem import SearchProblem
from robcert.types import LoadedModel

_EXAMPLES = ("adversarials", "beyond")
"""The kinds of files of examples: within the largest budget, and only beyond it."""


def write_contradiction(
    store: RunStore, name: str, search: SearchProblem, positions: list[int], attempt: Attempt
) -> None:
    """Write examples that contradict certificates, beside the certified radii."""
    at = torch.tensor(positions, dtype=torch.int64)
    images, bracket, threat = search.images, search.bracket, search.threat
    tensors = {
        "index": images.index.cpu()[at],
        "label": images.y.cpu()[at],
        "x": images.x.cpu()[at],
        "adversarial": bracket.points(positions),
        "distance": bracket.distance[at],
        "radius": bracket.radius[at],
    }
    constants = attempt.found.constants if attempt.found else {}
    store.write_tensors(name, tensors, {"norm": threat.norm, "method": attempt.method, "constants": constants})


def write_examples(
    store: RunStore, name: str, search: SearchProblem, record: ModelRecord, classes: Sequence[str]
) -> None:
    """Write ``adversarials-NAME.safetensors`` and ``beyond-NAME.safetensors``.

    Both tensor files have a row an image that was found: ``x`` and ``adversarial`` (m, *shape) float32, ``label``,
    ``adversarial_label`` and ``index`` (m,) int64, ``distance`` (m,) float64; and for every image of the run
    ``all_index`` (n,), ``all_found`` (n,) uint8 and ``all_distance`` (n,), which is inf where no example was found.
    The first file holds the examples within the largest budget, the second those found only beyond it. The metadata
    has the names of the classes of its labels, where ``classes``, in the order of the labels, has other names than
    numbers.
    """
    images, bracket, threat = search.images, search.bracket, search.threat
    broken = [i for i, image in enumerate(record.images) if "broken" in as_list(image.status)]
    others = {*broken, *(i for i, image in enumerate(record.images) if "wrong" in as_list(image.status))}
    beyond = [i for i in bracket.found() if i not in others]
    for prefix, positions in zip(_EXAMPLES, (broken, beyond), strict=True):
        at = torch.tensor(positions, dtype=torch.int64)
        x = images.x.cpu()
        found = torch.zeros(len(bracket), dtype=torch.uint8)
        found[at] = 1
        distance = torch.where(found.bool(), bracket.distance, float("inf"))
        labels = [example.label for i in positions if (example := bracket.examples[i]) is not None]
        examples = bracket.points(positions) if positions else x[:0]
        tensors = {
            "x": x[at],
            "adversarial": examples,
            "label": images.y.cpu()[at],
            "adversarial_label": torch.tensor(labels, dtype=torch.int64),
            "index": images.index.cpu()[at],
            "distance": bracket.distance[at],
            "all_index": images.index.cpu(),
            "all_found": found,
            "all_distance": distance,
        }
        meta = {"model": search.model.name, "norm": threat.norm, "eps": list(threat.eps), "box": list(threat.box)}
        numbers = sorted({*tensors["label"].tolist(), *labels})
        named = {str(k): classes[k] for k in numbers if k < len(classes) and classes[k] != str(k)}
        store.write_tensors(f"{prefix}-{name}.safetensors", tensors, meta | ({"classes": named} if named else {}))


def exported(model: LoadedModel) -> ExportedProgram | None:
    """Return the network as `write_network` will write it; None for TorchScript, which is written as it is.

    Where a certificate has read its graph, nothing is exported again.

    Raises:
        EvaluationError: torch cannot export it.
    """
    if any(isinstance(layer, torch.jit.ScriptModule) for layer in model.module.modules()):
        return None
    try:
        return graph_of(model).program
    except EvaluationError:  # a network without bounds may still be stored
        program = exported_program(copy_module(model.module).cpu().eval(), model)
    for node in program.graph.nodes:
        if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
            raise EvaluationError(f"{model.name} is random ({node.target}): what is written would answer otherwise")
    return program


def write_network(store: RunStore, name: str, model: LoadedModel, program: ExportedProgram | None) -> None:
    """Write the network that the examples fool, ``network-NAME.pt2`` (``.pt`` for TorchScript), if it is not there yet.

    Args:
        store: of the run.
        name: as `artefact_name` has it.
        model: the network.
        program: what `exported` returned.

    Raises:
        EvaluationError: what was written answers differently, or the directory cannot be written.
    """
    if not is_stored(store, name):
        with explained(store.directory):
            export_pt2(model, store.directory / f"network-{name}.pt2", exported=program)


def is_stored(store: RunStore, name: str) -> bool:
    """Return whether the network of that name is in the run directory already."""
    return any(store.directory.glob(f"network-{name}.pt*"))


def all_stored(store: RunStore, spec: RunSpec) -> bool:
    """Return whether the examples and the network of every model of a run are in its directory."""
    names = [artefact_name(spec, number) for number in range(len(spec.models))]
    kept = [store.directory / f"{kind}-{name}.safetensors" for kind in _EXAMPLES for name in names]
    return all(path.is_file() for path in kept) and all(is_stored(store, name) for name in names)


def artefact_name(spec: RunSpec, number: int) -> str:
    """Return the name of the files of a model in a run directory: its own, numbered where names repeat."""
    names = [re.sub(r"[^\w.-]+", "_", model.name) for model in spec.models]
    return names[number] if names.count(names[number]) == 1 else f"{names[number]}-{number + 1}"
