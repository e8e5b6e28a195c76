"""Rules that options of several commands share: those of models, and those of data (`robcert.cli.effect`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from robcert.cli.given import Given, Idle, Rule

_WEIGHTS = ("safetensors", "state_dict")


def always(given: Given) -> Idle | None:
    """It has an effect in every call."""
    del given
    return None


@dataclass(frozen=True)
class Never:
    """The rule of an option that no call of a command can use."""

    idle: Idle

    def __call__(self, given: Given) -> Idle | None:
        """Return the reason."""
        del given
        return self.idle


def never(why: str, do: str = "Leave it out.") -> Rule:
    """It has no effect in any call: the command has it because it belongs to a set."""
    return Never(Idle(why, do))


def unless(option: str, why: str, do: str) -> Rule:
    """It has no effect where ``option`` is not given."""
    return lambda given: None if given[option] else Idle(why, do)


def beside(option: str, why: str, do: str) -> Rule:
    """It has no effect where ``option`` is given."""
    return lambda given: Idle(why, do) if given[option] else None


def either(*rules: Rule) -> Rule:
    """The first reason that there is."""
    return lambda given: next((idle for rule in rules if (idle := rule(given)) is not None), None)


# Models


def weights(given: Given) -> Idle | None:
    """For files that hold weights without a network."""
    if not given.formats or any(kind in _WEIGHTS for kind in given.formats):
        return None
    what = "has its architecture" if given.formats[0] == "architecture" else "holds a network, not weights"
    return Idle(f"{given.references[0]} {what}", "Leave it out.")


def unless_named(rule: Rule) -> Rule:
    """The rule, but where a model is named by its library: its weights may have to be downloaded."""
    return lambda given: None if given.by_name else rule(given)


def nothing_missing(given: Given) -> Idle | None:
    """Files and the zoo are here."""
    what = f"{given.references[0]} is no name of a library" if given.references else "no model is named by its library"
    return Idle(f"{what}, so nothing is downloaded for it", "Leave it out.")


def architecture(given: Given) -> Idle | None:
    """--random-weights: for names of libraries."""
    if given.by_name or not given.references:
        return None
    return Idle(f"{given.references[0]} has weights", "Leave it out: it is for torchvision:NAME and timm:NAME.")


MODEL: dict[str, Rule] = {
    "random_weights": architecture,
    "download": unless_named(nothing_missing),
    "arch": weights,
    "weights_key": weights,
    "input_shape": always,  # it says or checks the shape, whatever the file
    "classes": always,
    "mean": always,  # it goes before what a card says
    "std": always,
    "box": always,
    "device": always,
}

# Data


def files(given: Given) -> Idle | None:
    """For data sets that lie in the folder of data sets."""
    from robcert.data import where

    if given.data is None or any(not source.from_path and where(name) for name, source in given.data):
        return None
    name, source = given.data[0]
    return Idle(f"{name} is {'a path of its own' if source.from_path else 'embedded in robcert'}", "Leave it out.")


def split(given: Given) -> Idle | None:
    """For data sets that have both splits."""
    if given.data is None or not all(_whole(name) for name, _ in given.data):
        return None
    return Idle(
        f"{given.data[0][0]} is not divided into test and train",
        "Leave it out, or name a folder with test and train inside.",
    )


def _whole(name: str) -> bool:
    """Return whether a data set has one split only."""
    import zipfile

    kind, _, text = name.partition(":")
    path = Path(text)
    if kind == "folder":
        return path.is_dir() and not any((path / part).is_dir() for part in ("test", "train"))
    if kind != "npz" or not path.is_file():
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            members = " ".join(archive.namelist()).lower()
    except (OSError, zipfile.BadZipFile, ValueError):
        return False
    return not any(part in members for part in ("test", "train", "val"))


def named(given: Given) -> Idle | None:
    """For data sets whose classes may have names only."""
    if given.data is None or any(source.named for _, source in given.data):
        return None
    return Idle(f"the classes of {given.data[0][0]} have numbers", "Leave it out: it is for folder:PATH and npz:PATH.")


subset = unless("n", "it draws a subset, and all images are taken", "Add --n, the number of images.")

DATA: dict[str, Rule] = {
    "data": always,
    "split": split,
    "n": always,
    "seed": subset,
    "data_dir": files,
    "download": files,
    "class_order": named,
    "batch_size": always,
}
