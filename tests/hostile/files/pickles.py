"""Pickles in files of weights: every way in which unpickling calls something."""

from __future__ import annotations

import functools
import io
import os
import pickle
import runpy
import subprocess
import tarfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.hostile.files.good import archive, members, network, weights
from tests.hostile.table import Place, hostile

PICKLE = "docs.python.org/3/library/pickle.html: os.system in a pickle"
LOAD = "docs.pytorch.org torch.load: weights_only=False runs code"
XTERM = "xterm ctlseqs: control sequences"
PICKLETOOLS = "docs.python.org/3/library/pickletools.html: opcodes"


class Reduce:
    """An object whose pickle is a call."""

    def __init__(self, call: Any, *arguments: Any, state: Any = None) -> None:
        self.parts = (call, arguments) if state is None else (call, arguments, state)

    def __reduce__(self) -> Any:
        return self.parts


def opcodes(place: Place, body: bytes, name: str = "model.pt") -> Path:
    """A state_dict archive whose data.pkl is these bytes."""
    return archive(place.files / name, {**_saved(weights()), "data.pkl": body})


def _saved(what: Any) -> dict[str, bytes]:
    out = io.BytesIO()
    torch.save(what, out)
    return members(out.getvalue())


def saved(place: Place, what: Any, name: str = "model.pt", **options: Any) -> Path:
    path = place.files / name
    torch.save(what, path, **options)
    return path


def text(value: str) -> bytes:
    """The opcode that pushes a text."""
    return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()


@hostile("pickle-system", "pickle", "REDUCE os.system in a new-style archive", PICKLE, control="torch_load", docs=True)
def _(place: Place) -> Path:
    return saved(place, Reduce(os.system, place.shell))


@hostile("pickle-exec", "pickle", "REDUCE exec", PICKLE, control="torch_load", docs=True)
def _(place: Place) -> Path:
    return saved(place, Reduce(exec, place.code), "model.pth")


@hostile("pickle-legacy", "pickle", "REDUCE eval in the old format without an archive", LOAD, control="torch_load", docs=True)  # fmt: skip
def _(place: Place) -> Path:
    return saved(place, Reduce(eval, place.code), _use_new_zipfile_serialization=False)


@hostile("pickle-legacy-header", "pickle", "the third pickle of the old format, before the weights", LOAD, control="torch_load")  # fmt: skip
def _(place: Place) -> Path:
    path = saved(place, weights(), _use_new_zipfile_serialization=False)
    good = io.BytesIO(path.read_bytes())
    first, second, _ = (pickle.load(good) for _ in range(3))
    path.write_bytes(
        pickle.dumps(first, 2) + pickle.dumps(second, 2) + pickle.dumps(Reduce(exec, place.code), 2) + good.read()
    )
    return path


@hostile("pickle-legacy-keys", "pickle", "the last pickle of the old format, after the weights", LOAD, control="torch_load")  # fmt: skip
def _(place: Place) -> Path:
    path = saved(place, weights(), _use_new_zipfile_serialization=False)
    good = io.BytesIO(path.read_bytes())
    for _ in range(4):
        _Skip(good).load()
    head = path.read_bytes()[: good.tell()]
    path.write_bytes(head + pickle.dumps(Reduce(exec, place.code), 2))
    return path


class _Skip(pickle.Unpickler):
    def persistent_load(self, pid: Any) -> Any:
        return torch.UntypedStorage(4096)

    def find_class(self, module: str, name: str) -> Any:
        return OrderedDict if name == "OrderedDict" else lambda *_: None


@hostile("pickle-bare", "pickle", "a plain pickle with the suffix of weights", PICKLE, control="torch_load", docs=True)
def _(place: Place) -> Path:
    path = place.files / "pytorch_model.bin"
    path.write_bytes(pickle.dumps({"state_dict": Reduce(os.system, place.shell)}, 0))
    return path


@hostile("pickle-beside-weights", "pickle", "good weights, and a date that is a call", LOAD, control="torch_load", docs=True)  # fmt: skip
def _(place: Place) -> Path:
    return saved(place, {"state_dict": weights(), "epoch": 3, "date": Reduce(exec, place.code)})


@hostile("pickle-global-import", "pickle", "GLOBAL alone: to find a class its module is imported", PICKLETOOLS, control="torch_load", docs=True)  # fmt: skip
def _(place: Place) -> Path:
    return opcodes(place, b"\x80\x02ccanary\nfactory\n.")


@hostile("pickle-dotted-global", "pickle", "STACK_GLOBAL torch, serialization.os.system: the first name is torch", PICKLETOOLS, control="torch_load", docs=True)  # fmt: skip
def _(place: Place) -> Path:
    call = text("torch") + text("serialization.os.system") + b"\x93"
    return opcodes(place, b"\x80\x04" + call + text(place.shell) + b"\x85R.")


@hostile("pickle-inst", "pickle", "INST, the opcode of protocol 0", PICKLETOOLS, control="torch_load", docs=True)
def _(place: Place) -> Path:
    return opcodes(place, b"(" + text(place.shell) + b"ios\nsystem\n.")


@hostile("pickle-obj", "pickle", "OBJ: a class and its arguments from the stack", PICKLETOOLS, control="torch_load", docs=True)  # fmt: skip
def _(place: Place) -> Path:
    return opcodes(place, b"\x80\x02(csubprocess\nPopen\n(" + text("touch") + text(place.evidence) + b"lo.")


@hostile("pickle-memo", "pickle", "the call is found in the memo, put there by another name", PICKLETOOLS, control="torch_load")  # fmt: skip
def _(place: Place) -> Path:
    return opcodes(place, b"\x80\x02cos\nsystem\nq\x630h\x63" + text(place.shell) + b"\x85R.")


@hostile("pickle-build", "pickle", "BUILD: __setstate__ of a partial of int puts exec into it", PICKLETOOLS, control="torch_load")  # fmt: skip
def _(place: Place) -> Path:
    state = b"(cbuiltins\nexec\n" + text(place.code) + b"\x85}}t"
    return opcodes(place, b"\x80\x02cfunctools\npartial\ncbuiltins\nint\n\x85R" + state + b"b)R.")


@hostile("pickle-rebuild-type", "pickle", "torch._tensor._rebuild_from_type_v2, a function that torch allows, calls its argument", "torch/_tensor.py: _rebuild_from_type_v2", control="torch_load")  # fmt: skip
def _(place: Place) -> Path:
    return saved(place, Reduce(torch._tensor._rebuild_from_type_v2, exec, torch.Tensor, (place.code,), {}))


@hostile("pickle-hooks", "pickle", "a call among the hooks of _rebuild_tensor_v2", "torch/_utils.py: _rebuild_tensor_v2", control="torch_load")  # fmt: skip
def _(place: Place) -> Path:
    storage = torch.zeros(640)._typed_storage()
    hooks = OrderedDict([(0, Reduce(exec, place.code))])
    call = Reduce(torch._utils._rebuild_tensor_v2, storage, 0, (10, 64), (64, 1), False, hooks)
    return saved(place, OrderedDict([("1.weight", call), ("1.bias", torch.zeros(10))]))


@hostile("pickle-persistent-id", "pickle", "the call is inside the persistent id of a storage", PICKLETOOLS, control="torch_load")  # fmt: skip
def _(place: Place) -> Path:
    call = b"cbuiltins\nexec\n" + text(place.code) + b"\x85R"
    return opcodes(place, b"\x80\x02(" + text("storage") + call + text("0") + text("cpu") + b"K\x01tQ.")


@hostile("pickle-nested", "pickle", "torch.storage._load_from_bytes: a second torch file in a text", "torch/storage.py: _load_from_bytes", control="torch_load")  # fmt: skip
def _(place: Place) -> Path:
    inner = io.BytesIO()
    torch.save(Reduce(exec, place.code), inner)
    return saved(place, {"state_dict": {"1.weight": Reduce(torch.storage._load_from_bytes, inner.getvalue())}})


@hostile("pickle-numpy-object", "pickle", "a NumPy array of objects among the settings", "numpy.org: arrays of objects are pickled", control="torch_load", docs=True)  # fmt: skip
def _(place: Place) -> Path:
    return saved(place, {"state_dict": weights(), "mean": np.array([Reduce(exec, place.code)], dtype=object)})


@hostile("pickle-module", "pickle", "a whole module whose forward is torch.save", "docs.pytorch.org: saving an entire model", control="torch_load", docs=True)  # fmt: skip
def _(place: Place) -> Path:
    net = network()
    net.__dict__["forward"] = functools.partial(torch.save, f=place.evidence)
    return saved(place, net)


@hostile("pickle-hub", "pickle", "REDUCE torch.hub.load_state_dict_from_url", "docs.pytorch.org torch.hub", control="torch_load", docs=True)  # fmt: skip
def _(place: Place) -> Path:
    return saved(place, Reduce(torch.hub.load_state_dict_from_url, "http://127.0.0.1:9/w.pth"))


@hostile("pickle-run-path", "pickle", "REDUCE runpy.run_path: no os, no builtins", "docs.python.org/3/library/runpy.html", control="torch_load", docs=True)  # fmt: skip
def _(place: Place) -> Path:
    return saved(place, Reduce(runpy.run_path, str(place.work / "canary.py")))


@hostile("pickle-torch-writes", "pickle", "REDUCE torch.from_file: torch itself writes", "docs.pytorch.org torch.from_file: shared=True", control="torch_load", docs=True)  # fmt: skip
def _(place: Place) -> Path:
    return saved(place, OrderedDict([("1.weight", Reduce(torch.from_file, place.evidence, True, 640))]))


@hostile("pickle-tar", "pickle", "the tar of torch 0.1, which unpickles before it looks", "torch/serialization.py: legacy_load", control="torch_load_tar")  # fmt: skip
def _(place: Place) -> Path:
    path = place.files / "model.pt"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as out:
        for name in ("storages", "tensors", "pickle"):
            body = pickle.dumps(Reduce(exec, place.code) if name == "storages" else 0, 2)
            info = tarfile.TarInfo(name)
            info.size = len(body)
            out.addfile(info, io.BytesIO(body))
    return path


@hostile("pickle-popen", "pickle", "a subclass of dict that starts a process when it is filled", PICKLE, control="torch_load")  # fmt: skip
def _(place: Place) -> Path:
    call = Reduce(subprocess.Popen, ["touch", place.evidence])
    return saved(place, OrderedDict([("1.weight", torch.zeros(10, 64)), (call, torch.zeros(10))]))


@hostile("pickle-recursion", "pickle", "tuples nested 100,000 deep", PICKLETOOLS, cost=True)
def _(place: Place) -> Path:
    return opcodes(place, b"\x80\x02)" + b"\x85" * 100_000 + b".")


@hostile("pickle-long-memo", "pickle", "LONG4 and LONG_BINPUT that ask for gigabytes", PICKLETOOLS, cost=True)
def _(place: Place) -> Path:
    return opcodes(place, b"\x80\x02Nr\xff\xff\xff\x7f\x8b\xff\xff\xff\x7f.")


@hostile("pickle-terminal", "pickle", "a global whose name clears the terminal, for the message that names it", XTERM, docs=True)  # fmt: skip
def _(place: Place) -> Path:
    return opcodes(place, b"\x80\x02c\x1b[2J\x1b]0;owned\x07\nsystem\n.")


@hostile("pickle-terminal-keys", "pickle", "names of tensors that clear the terminal", XTERM, docs=True)
def _(place: Place) -> Path:
    return saved(
        place, {f"\x1b[2J\r{name}": value for name, value in weights().items()} | {"\x1b[31m": torch.ones(3, 3)}
    )
