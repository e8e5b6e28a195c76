"""The check that the tensors of a torch archive have the bytes that they declare.

torch takes the size of a storage from the pickle and its bytes from a member of the archive, and does not compare the
two: a member that is too short is read past its end, which ends the process or reads memory of somebody else.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any, NoReturn

from robcert.errors import EvaluationError
from robcert.network.detect import members

_PICKLES = {"data.pkl": "data", "constants.pkl": "constants"}
"""The pickles of an archive, and the folders of the bytes that they speak of."""

_BYTES = {
    **dict.fromkeys(("Untyped", "Char", "Byte", "Bool", "QInt8", "QUInt8"), 1),
    **dict.fromkeys(("Half", "BFloat16", "Short"), 2),
    **dict.fromkeys(("Float", "Int", "QInt32"), 4),
    **dict.fromkeys(("Double", "Long", "ComplexFloat"), 8),
    "ComplexDouble": 16,
}
"""Of one entry, by the kind of storage."""


class Inert:
    """Stands for every class and function that a pickle names; does nothing, whatever is done to it."""

    name = ""

    def __new__(cls, *_: object, **__: object) -> Inert:
        return object.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None: ...
    def __call__(self, *_: object, **__: object) -> Inert:
        return self

    def __setitem__(self, _: object, __: object) -> None: ...
    def __setstate__(self, _: object) -> None: ...
    def append(self, _: object) -> None: ...
    def extend(self, _: object) -> None: ...
    def add(self, _: object) -> None: ...


# The one written in Python: its memo is a dictionary, where that in C allocates what an index asks for.
class _Reader(pickle._Unpickler):  # pyright: ignore
    """Collects the storages that a pickle declares, and makes nothing."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content))
        self.storages: list[tuple[str, int]] = []

    def find_class(self, module: str, name: str) -> Any:
        return type("Inert", (Inert,), {"name": f"{module}.{name}"})

    def persistent_load(self, pid: Any) -> Any:
        mark, kind, key, _, count = pid
        if mark != "storage" or not isinstance(key, str) or not isinstance(count, int) or count < 0:
            raise pickle.UnpicklingError("a storage that is none")
        self.storages.append((key, count * _entry_size(kind.name)))
        return Inert()


def _entry_size(name: str) -> int:
    kind = name.rpartition(".")[2].removesuffix("Storage")
    if kind not in _BYTES:
        raise pickle.UnpicklingError(f"a storage of kind {name!r}")
    return _BYTES[kind]


def check_storages(path: Path) -> None:
    """Compare what the pickles of a zip archive declare with the sizes of its members.

    Raises:
        EvaluationError: a storage is missing or shorter than declared, or a pickle is damaged.
    """
    names = members(path)
    with zipfile.ZipFile(path) as archive:
        if len(names) != len(archive.namelist()):
            _refuse(path, "it holds two files of one name")
        for name, folder in _PICKLES.items():
            if name not in names:
                continue
            try:
                reader = _Reader(archive.read(names[name]))
                reader.load()
            except Exception as error:  # a damaged pickle fails in many ways
                _refuse(path, f"its {name} cannot be read ({type(error).__name__})")
            for key, size in reader.storages:
                member = names.get(f"{folder}/{key}")
                held = None if member is None else archive.getinfo(member).file_size
                if held is None or held < size:
                    _refuse(path, f"a tensor wants {size:,} bytes of {folder}/{key}, which has {held or 0:,}")


def _refuse(path: Path, why: str) -> NoReturn:
    raise EvaluationError(f"{path} is damaged: {why}", "Copy, download or save it again.")
