"""Libraries of networks that are known by name: one file each, ``torchvision:NAME``, ``timm:NAME``, ``hf:ORG/REPO``.

To add one: a file here with a class under ``@library("prefix")`` that fulfils `Library`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from robcert.errors import EvaluationError, UsageError, did_you_mean
from robcert.network.card import Card
from robcert.network.libraries._packages import Access
from robcert.registry import Registry

if TYPE_CHECKING:
    from torch import nn

    from robcert.network.libraries._hub import Folder
    from robcert.network.match import Tensors
    from robcert.network.request import Request

LibraryFormat = Literal["torchvision", "timm", "transformers"]


@dataclass(frozen=True)
class Named:
    """A network of a library, before its weights are read.

    Attributes:
        card: what the library says of it: normalisation, pipeline, classes, input.
        format: how `robcert.types.Source` calls it.
        make: builds it for a card (in which a user may have changed the input and the classes), with its weights where
            the library itself puts them in; None where ``weights`` go into the architecture of the card.
        weights: reads them.
        files: of the weights; none where they are random.
        notes: what was decided, a sentence each.
        unprepared: why it is not known how its images are normalised; "" where that is known.
    """

    card: Card
    format: LibraryFormat
    make: Callable[[Card], nn.Module] | None = None
    weights: Callable[[], Tensors] | None = None
    files: tuple[Path, ...] = ()
    notes: tuple[str, ...] = field(default=())
    unprepared: str = ""


class Library(Protocol):
    """A library of networks."""

    title: str
    example: str

    def named(self, name: str, access: Access) -> Named:
        """Return the network of a name.

        Raises:
            UsageError: there is none; the closest name is suggested.
            EvaluationError: its weights are not on this machine, or cannot be downloaded.
        """
        ...

    def build(self, request: Request) -> nn.Module:
        """Return an architecture with fresh weights, for ``--arch``."""
        ...

    def described(self, name: str) -> Card:
        """Return what is known of the inputs of an architecture that ``--arch`` names."""
        ...


@runtime_checkable
class FolderLibrary(Library, Protocol):
    """A library that writes folders with a ``config.json``."""

    def owns(self, config: Mapping[str, Any]) -> bool:
        """Return whether a ``config.json`` is one of this library's."""
        ...

    def stored(self, folder: Folder) -> Named:
        """Return the network in a folder whose ``config.json`` this library `owns`."""
        ...


libraries: Registry[Library] = Registry("library of models", "robcert.network.libraries")
"""All libraries by their prefixes."""


def library(prefix: str) -> Callable[[type[Library]], type[Library]]:
    """Decorator that registers a library under the prefix of its names."""

    def keep(kind: type[Library]) -> type[Library]:
        libraries.register(prefix)(kind())
        return kind

    return keep


def split(reference: str) -> tuple[str, str] | None:
    """Return the prefix and the name of "timm:resnet18"; None where no library has that prefix."""
    prefix, colon, name = reference.partition(":")
    return (prefix, name) if colon and prefix in libraries else None


def find(reference: str | Path, access: Access) -> Named | None:
    """Return the network that a name or the folder of a library stands for; None where it is neither.

    Raises:
        UsageError: the library has no such name; random weights of a file.
        EvaluationError: its files are missing, or hold what is not read.
    """
    found = None
    text = str(reference)
    named = split(text) if not Path(text).exists() else None
    if named is not None:
        prefix, name = named
        found = libraries.get(prefix).named(name, access)
    elif (Path(text).expanduser() / "config.json").is_file():
        from robcert.network.libraries._hub import local

        found = stored(local(Path(text).expanduser()))
    if access.random and (named is None or found is None):
        raise UsageError(
            f"{text} holds weights, so --random-weights has no effect",
            "Leave it out. It is for names of architectures: torchvision:resnet18, timm:resnet18.",
        )
    return found


def stored(folder: Folder) -> Named:
    """Return the network in a folder of a library.

    Raises:
        EvaluationError: no library here wrote its ``config.json``, or it holds what is not read.
    """
    for _, one in libraries.items():
        if isinstance(one, FolderLibrary) and one.owns(folder.config):
            return one.stored(folder)
    raise EvaluationError(
        f"{folder.where}: config.json is of no library that robcert knows (its keys: "
        f"{', '.join(list(folder.config)[:5]) or 'none'})",
        "Known: save_pretrained of transformers, timm's save_for_hf. Export others to ONNX or .pt2.",
    )


def nearest(name: str, known: list[str], examples: str) -> str:
    """Return the closest of many names as a suggestion, or some examples."""
    near = did_you_mean(name, known).partition(" Known:")[0]
    return near if near.startswith("Did") else examples
