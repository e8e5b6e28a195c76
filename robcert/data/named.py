"""The numbers of classes by what a network calls them: by name, by WordNet id, or by number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from robcert.errors import EvaluationError, UsageError, did_you_mean
from robcert.preparation import WORDNET, Labels, Preparation, plain, same_classes

_WAY_OUT = "--class-order FILE says which class each folder is."


def by_labels(names: Sequence[str], known: Preparation, what: str) -> dict[str, int] | None:
    """Return the number of each name in a network's own list of classes; None where it has no list.

    Args:
        names: of the folders.
        known: the network.
        what: how a message calls them.

    Raises:
        UsageError: a name is none of its classes, or two are one.
        EvaluationError: WordNet ids, and timm, which knows them, is not installed.
    """
    labels = known.labels
    if not labels.names:
        return None
    if not labels.ids and any(WORDNET.fullmatch(name) for name in names):
        labels = Labels(labels.names, _wordnet(labels.names, known.model))
    table = labels.numbers()
    numbers = {name: table[plain(name)] for name in names if plain(name) in table}
    if missing := [name for name in names if name not in numbers]:
        raise UsageError(
            f"{len(missing)} of {len(names)} {what} are no class of {known.model}: "
            f"{', '.join(map(repr, missing[:3]))}{', ...' if missing[3:] else ''}",
            f"{_suggestion(missing[0], table)}Folders are called as its classes, their WordNet ids or their numbers. "
            f"{_WAY_OUT}",
        )
    _check_distinct(numbers, what)
    return numbers


def _suggestion(name: str, table: Mapping[str, int]) -> str:
    near = did_you_mean(plain(name), table).partition(" Known:")[0]
    return f"{near} " if near.startswith("Did") else ""


def _check_distinct(numbers: Mapping[str, int], what: str) -> None:
    first: dict[int, str] = {}
    for name, number in numbers.items():
        if (other := first.setdefault(number, name)) != name:
            raise UsageError(f"two {what} are class {number}: {other!r} and {name!r}", _WAY_OUT)


def _wordnet(names: tuple[str, ...], model: str) -> tuple[str, ...]:
    """Return the WordNet ids of a network's classes, where these are the 1,000 of ImageNet; else none.

    Raises:
        EvaluationError: timm is not installed.
    """
    from robcert.vision import mend

    if len(names) != 1000:
        return ()
    mend()
    try:
        from timm.data.imagenet_info import ImageNetInfo
    except ModuleNotFoundError:
        raise EvaluationError(
            f"the folders are WordNet ids, and {model} has names of classes only; timm knows which is which",
            f'pip install "robcert[timm]". {_WAY_OUT}',
        ) from None
    info = ImageNetInfo("imagenet-1k")
    return tuple(info.label_names()) if same_classes(names, info.label_descriptions()) else ()
