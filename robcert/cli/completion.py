"""What the shell offers behind a word: names that are registered, read from the files; nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from robcert.registry import written_names

Completion = Callable[[str], list[str]]

PLANS = ("autoattack", "fast", "strong")
"""Plans by name (`robcert.runs.plan` has them, and needs torch)."""

PATHS = ("folder", "npz")
"""Data sets that take a path (`robcert.data` knows it, and needs torch)."""


def among(*names: str) -> Completion:
    """Return the completion of an option that takes one of these."""
    return lambda incomplete: _beginning(names, incomplete)


def attacks(incomplete: str) -> list[str]:
    """Return attacks."""
    return _beginning(written_names("robcert.attacks", "attack"), incomplete)


def certificates(incomplete: str) -> list[str]:
    """Return methods of certification, the last of several with commas."""
    return _last(written_names("robcert.certificates", "certificate"), incomplete)


def norms(incomplete: str) -> list[str]:
    """Return norms and other registered threats."""
    return _beginning(written_names("robcert.threats", "threat"), incomplete)


def data_sets(incomplete: str) -> list[str]:
    """Return data sets; the name of one that takes a path ends in a colon."""
    names = written_names("robcert.data", "dataset")
    return _beginning([f"{name}:" if name in PATHS else name for name in names], incomplete)


def plans(incomplete: str) -> list[str]:
    """Return plans by name, or the attack of the leg that is being written."""
    names = [f"{name}:" for name in written_names("robcert.attacks", "attack")]
    return _last(names if "," in incomplete else [*PLANS, *names], incomplete)


def models(incomplete: str) -> list[str]:
    """Return models of the zoo."""
    from robcert.network.zoo import zoo_names

    return _beginning(zoo_names(), incomplete)


def architectures(incomplete: str) -> list[str]:
    """Return registered architectures."""
    from robcert.network.overview import architectures as known

    return _beginning([entry.name for entry in known()], incomplete)


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in sorted(names) if name.startswith(incomplete)]


def _last(names: Iterable[str], incomplete: str) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in _beginning(names, last)]
