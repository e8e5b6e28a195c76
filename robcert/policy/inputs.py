"""The models and images of a policy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from robcert.data import fit_to, load_dataset, subset
from robcert.errors import EvaluationError, RobcertError, UsageError
from robcert.network import load_model, peek_card, preparation_of
from robcert.policy.load import Source
from robcert.policy.schema import ModelEntry
from robcert.preparation import Preparation, agreed
from robcert.types import UNIT, Dataset, LoadedModel

_PATHS = ("npz", "folder")


@dataclass(frozen=True)
class Inputs:
    """Models by the names that they go by, the images, and how many there are in the whole data set."""

    models: list[LoadedModel]
    data: Dataset
    of: int


def load_policy_inputs(source: Source, device: str, data_dir: Path | None, download: bool) -> Inputs:
    """Load what a policy names; its paths are relative to it.

    Raises:
        UsageError: something does not exist or does not fit, with the line of the policy.
        EvaluationError: a file cannot be evaluated.
    """
    policy = source.policy
    references = [_reference(source, entry.path) for entry in policy.models]
    name = policy.data or _data_of_card(source, references)
    kind, colon, path = name.partition(":")
    if colon and kind in _PATHS and source.beside(path).exists():
        name = f"{kind}:{source.beside(path)}"
    with _at(source, "data"):
        order = None if policy.class_order is None else source.beside(policy.class_order)
        whole = load_dataset(
            name,
            split=policy.split,
            data_dir=data_dir,
            download=download,
            class_order=order,
            box=_box(source),
            preparation=_preparation(policy.models, references, download) if kind == "folder" else None,
        )
        data = subset(whole, policy.n, policy.seed)
    data = replace(data, name=policy.data or name)
    models: list[LoadedModel] = []
    for entry, reference in zip(policy.models, references, strict=True):
        with _at(source, "models"):
            models.append(_load(entry, reference, data, device, download))
            fit_to(data, models[-1:])
    if twice := [name for name, count in Counter(model.name for model in models).items() if count > 1]:
        raise UsageError(
            f"{source.place('models')}: two models are called {twice[0]!r}",
            'Give each a name of its own: models = [{ path = "...", name = "..." }]',
        )
    with _at(source, "models"):
        data = fit_to(data, models)
    moved = replace(data, x=data.x.to(device), y=data.y.to(device), index=data.index.to(device))
    return Inputs(models, moved, len(whole))


def _preparation(entries: Sequence[ModelEntry], references: list[str], download: bool) -> Preparation | None:
    """What the models of a policy do to pictures and call their classes.

    Raises:
        UsageError: they do not agree.
    """
    found: list[Preparation | None] = []
    for entry, reference in zip(entries, references, strict=True):
        card = peek_card(
            reference,
            arch=entry.arch,
            input_shape=entry.input_shape,
            random_weights=entry.random_weights,
            download=download,
        )
        found.append(preparation_of(card, entry.name or Path(reference).name))
    return agreed(found)


def _load(entry: ModelEntry, reference: str, data: Dataset, device: str, download: bool) -> LoadedModel:
    model = load_model(
        reference,
        arch=entry.arch,
        weights_key=entry.weights_key,
        input_shape=entry.input_shape,
        num_classes=entry.classes,
        mean=entry.mean,
        std=entry.std,
        box=data.box,
        device=device,
        images=data.x,
        likely_classes=max(len(data.classes), 2),
        random_weights=entry.random_weights,
        download=download,
    )
    return replace(model, name=entry.name) if entry.name else model


def _box(source: Source) -> tuple[float, float]:
    """The box that the models of a policy share.

    Raises:
        UsageError: they have different ones.
    """
    boxes = sorted({entry.box or UNIT for entry in source.policy.models})
    if len(boxes) > 1:
        raise UsageError(f"models with the boxes {boxes[0]} and {boxes[1]} cannot share images", "Write two policies")
    return boxes[0]


def _reference(source: Source, path: str) -> str:
    try:
        beside = source.beside(path)
        return str(beside) if beside.exists() else path
    except (OSError, ValueError):
        return path


def _data_of_card(source: Source, references: list[str]) -> str:
    with _at(source, "models"):
        card = peek_card(references[0])
    if card is None or not card.data:
        raise UsageError(
            f"{source.place('models')}: {references[0]} has no card that names its data, so data is missing",
            'Add a line to [gate], e.g. data = "npz:images.npz"',
        )
    return card.data


class _at:
    """Puts the line of the policy in front of what is wrong there."""

    def __init__(self, source: Source, key: str) -> None:
        self.place = source.place(key)

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, RobcertError):
            family = UsageError if error.exit_code == 2 else EvaluationError
            raise family(f"{self.place}: {error.found}", error.do) from None
