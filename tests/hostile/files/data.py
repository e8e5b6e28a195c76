"""Data sets of strangers: pickles in arrays, pictures that are programs."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np

from tests.hostile.files.pickles import Reduce
from tests.hostile.table import Place, hostile

ALLOW_PICKLE = "numpy.org numpy.load: allow_pickle"
DATA = ("attack", "digits-plain", "--n", "5", "--eps", "0.5", "--plan", "pgd:2", "--data")


def pickled_npz(place: Place, name: str = "images.npz") -> Path:
    """Good images, and labels that are an array of objects."""
    path = place.files / name
    labels = np.array([Reduce(exec, place.code), 1], dtype=object)
    np.savez(path, x=np.zeros((2, 1, 8, 8), np.float32), y=labels)
    return path


@hostile("data-npz-labels", "data", "labels are an array of objects", ALLOW_PICKLE, control="numpy_load", docs=True, argv=(*DATA, "npz:{file}"))  # fmt: skip
def _(place: Place) -> Path:
    return pickled_npz(place)


@hostile("data-npz-extra", "data", "an array of objects that nobody asked for", ALLOW_PICKLE, control="numpy_load", docs=True, loads=True, argv=(*DATA, "npz:{file}"))  # fmt: skip
def _(place: Place) -> Path:
    path = place.files / "images.npz"
    extra = np.array([Reduce(exec, place.code)], dtype=object)
    np.savez(path, x=np.zeros((20, 1, 8, 8), np.float32), y=np.arange(20) % 10, classes=extra)
    return path


@hostile("data-npz-is-a-pickle", "data", "a bare pickle called images.npz", ALLOW_PICKLE, control="numpy_load", docs=True, argv=(*DATA, "npz:{file}"))  # fmt: skip
def _(place: Place) -> Path:
    path = place.files / "images.npz"
    path.write_bytes(pickle.dumps(Reduce(exec, place.code)))
    return path


@hostile("data-npz-header", "data", "an array whose header is a Python expression", "numpy.org NEP 1: the header is a literal", docs=True, argv=(*DATA, "npz:{file}"))  # fmt: skip
def _(place: Place) -> Path:
    path = place.files / "images.npz"
    header = f"{{'descr': '<f4', 'fortran_order': {place.code}, 'shape': (2, 1, 8, 8), }}".encode()
    header += b" " * (64 - (len(header) + 11) % 64) + b"\n"
    body = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(2 * 64 * 4)
    labels = io.BytesIO()
    np.save(labels, np.array([0, 1]))
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("x.npy", body)
        out.writestr("y.npy", labels.getvalue())
    return path


@hostile("data-picture-postscript", "data", "PostScript called 0.png: Pillow starts Ghostscript", "pillow.readthedocs.io: EPS needs Ghostscript", control="pillow", docs=True, argv=(*DATA, "folder:{file}"))  # fmt: skip
def _(place: Place) -> Path:
    folder = place.files / "pictures"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        program = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n({place.evidence}) (w) file closefile\nshowpage\n"
        (folder / name / "0.png").write_text(program)
    return folder


@hostile("data-cifar-pickle", "data", "the pickled batches of CIFAR-10", "cs.toronto.edu/~kriz/cifar.html: pickled batches", control="unpickle", docs=True, argv=("attack", "digits-plain", "--n", "5", "--eps", "0.5", "--plan", "pgd:2", "--data", "cifar10", "--data-dir", "{file}"))  # fmt: skip
def _(place: Place) -> Path:
    folder = place.files / "data"
    (folder / "cifar-10-batches-py").mkdir(parents=True)
    (folder / "cifar-10-batches-py" / "batches.meta").write_bytes(pickle.dumps({"label_names": list("0123456789")}))
    for name in ("test_batch", *(f"data_batch_{k}" for k in range(1, 6))):
        (folder / "cifar-10-batches-py" / name).write_bytes(pickle.dumps(Reduce(exec, place.code), 2))
    return folder


@hostile("data-class-order", "data", "a class order that is a Python literal with a call", "docs/data.md: --class-order", argv=("attack", "digits-plain", "--n", "5", "--eps", "0.5", "--plan", "pgd:2", "--data", "folder:{file}", "--class-order", "{file}/order.json"))  # fmt: skip
def _(place: Place) -> Path:
    from PIL import Image

    folder = place.files / "pictures"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        Image.new("L", (8, 8)).save(folder / name / "0.png")
    (folder / "order.json").write_text(f'{{"a": {place.code}, "b": 1}}')
    return folder


@hostile("data-terminal", "data", "arrays whose names clear the terminal", "xterm ctlseqs: control sequences", docs=True, argv=(*DATA, "npz:{file}"))  # fmt: skip
def _(place: Place) -> Path:
    path = place.files / "images.npz"
    np.savez(path, **{"\x1b[2J": np.zeros((2, 1, 8, 8), np.float32), "\x1b]0;owned\x07": np.arange(2)})
    return path
