"""The trained models that ship with robcert: one folder each, found by name."""

from __future__ import annotations

import difflib
from pathlib import Path

from robcert.errors import UsageError, did_you_mean

WEIGHTS = "weights.safetensors"
CARD = "model.toml"
LIBRARIES = ("torchvision", "timm", "hf")
"""The prefixes of names of libraries (`robcert.network.libraries`)."""
_PREFIXES = {**{name: name for name in LIBRARIES}, "huggingface": "hf", "hf-hub": "hf", "transformers": "hf"}


def zoo_roots() -> list[Path]:
    """Return the folders that may hold the zoo: inside an installed package, beside it in a source checkout."""
    package = Path(__file__).resolve().parent.parent
    # A checkout is told from site-packages by its pyproject.toml: another package may install a "models".
    checkout = [package.parent / "models"] if (package.parent / "pyproject.toml").is_file() else []
    return [root for root in [package / "models", *checkout] if root.is_dir()]


def zoo_names() -> list[str]:
    """Return the names of the models in the zoo, sorted."""
    return sorted(
        {
            folder.name
            for root in zoo_roots()
            for folder in root.iterdir()
            if (folder / WEIGHTS).is_file() and (folder / CARD).is_file()
        }
    )


def zoo_path(name: str) -> Path:
    """Return the folder of a model in the zoo: ``weights.safetensors``, ``model.toml``, ``recipe.toml``.

    Raises:
        UsageError: no model has that name.
    """
    if name in zoo_names():
        for root in zoo_roots():
            if (root / name / WEIGHTS).is_file():
                return root / name
    raise UsageError(f"no model in the zoo is called {name!r}", did_you_mean(name, zoo_names()))


def resolve(reference: str | Path) -> tuple[Path, Path | None]:
    """Return the file that a reference means, and the ``model.toml`` beside it (None where there is none).

    A file, then a folder that holds ``weights.safetensors``, then a name in the zoo: what exists where the
    user stands wins, but a folder of another kind does not hide a model of the zoo.

    Raises:
        UsageError: none of these exists.
    """
    text = str(reference)
    if not text.strip():
        raise UsageError("no model was named", "Give a file or a name of the zoo: `robcert models` lists them.")
    path = Path(text).expanduser()
    try:
        is_file, is_folder = path.is_file(), path.is_dir()
    except (OSError, ValueError) as error:
        raise UsageError(f"{text!r} cannot be a path: {error}") from None
    if not is_file:
        folder = path if (path / WEIGHTS).is_file() else None
        if folder is None and text in zoo_names():
            folder = zoo_path(text)
        if folder is None and is_folder:
            raise UsageError(
                f"{text} is a folder, expected a model file",
                f"A folder is a model when it holds {WEIGHTS} and {CARD}; otherwise name the file in it.",
            )
        if folder is None:
            raise UsageError(f"there is no file and no model in the zoo called {text!r}", _known(text))
        path = folder / WEIGHTS
    beside = path.parent / CARD
    return path, beside if beside.is_file() else None


def _known(text: str) -> str:
    """Return a suggestion for a reference that stands for nothing: a prefix, where it has one, else a name."""
    prefix, colon, name = text.partition(":")
    if colon and name and "/" not in prefix and "\\" not in prefix:
        close = difflib.get_close_matches(prefix.lower(), _PREFIXES, n=1, cutoff=0.5)
        near = _PREFIXES[close[0]] if close else None
        meant = f"Did you mean {near}:{name}? " if near else ""
        return f"{meant}Names of libraries begin with torchvision:, timm: or hf:."
    return did_you_mean(text, zoo_names()) if zoo_names() else "The zoo is empty."
