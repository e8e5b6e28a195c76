"""Damaged files of every format: each ends in a clear error or in a correct load, and in nothing else.

    python benchmarks/fuzz.py                       # 10,000 files
    python benchmarks/fuzz.py --files 300 --seed 1

A good file of each format is damaged in a reproducible way (bytes, lengths, truncation, parts twice, texts swapped; in
archives also a file inside, with its checksum made right; and along the grammar of the format, `fuzz_grammar.py`) and
given to the function that reads it, in a process of its own that may not write, start a process or connect, where the
system has a way to forbid it (`fuzz_sandbox.py`). The first file of each format is undamaged, and must load. Faults:
any exception that is no RobcertError, a process that ends, more than 10 s of the processor for a file (or a minute of
the clock), more than 2 GB of memory, a file that appears where none may, or code from a file that ran (every pickle
among the good files would create a folder). Exit code 1 if there is one.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import pickle
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

MOST_SECONDS = 10.0
MOST_MEMORY = 2 * 10**9
SPRUNG = "sprung"


class Trap:
    """A pickle that creates a folder when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (self.path,)


def net() -> Any:
    """A small classifier of 1 x 6 x 6 images."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)
    ).eval()


def good_files(folder: Path) -> dict[str, Path]:
    """One good file of each format, in a folder of its own where it needs company."""
    import numpy as np
    import torch

    from robcert.network import Card, export_onnx, from_module, save_model
    from robcert.network.card import write_toml
    from robcert.nn import architectures

    (folder / "fuzznets.py").write_text(Path(__file__).read_text(encoding="utf-8"), encoding="utf-8")
    module, shape = net(), (1, 6, 6)
    card = Card(architecture="fuzznets:net", input_shape=shape, num_classes=3)
    model = from_module(module, shape, 3)
    files = {
        name: folder / name for name in ("plain.pt", "legacy.pt", "script.pt", "export.pt2", "trap.pt", "trap.pkl")
    }
    files["safetensors"] = save_model(module, card, folder / "a.safetensors")
    linear = Card(architecture="linear", input_shape=shape, num_classes=3)
    files["registered"] = save_model(architectures.get("linear")(shape, 3), linear, folder / "registered.safetensors")
    files["carded.pt"] = save_model(module, card, folder / "carded.pt")
    torch.save(module.state_dict(), files["plain.pt"])
    torch.save({"state_dict": module.state_dict()}, files["legacy.pt"], _use_new_zipfile_serialization=False)
    torch.jit.save(torch.jit.script(module), str(files["script.pt"]))
    exported = torch.export.export(module, (torch.rand(2, *shape),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.export.save(exported, files["export.pt2"])
    torch.save({"weight": torch.zeros(3), "code": Trap(folder / SPRUNG)}, files["trap.pt"])
    files["trap.pkl"].write_bytes(pickle.dumps(Trap(folder / SPRUNG)))
    files["onnx"] = export_onnx(model, folder / "a.onnx")
    files["onnx.text"] = folder / "shapes.onnx"
    files["onnx.text"].write_bytes(_shapes_onnx())
    files["onnx.external"] = folder / "external.onnx"
    _external_onnx(files["onnx"], files["onnx.external"])
    files["toml"] = write_toml(card, folder / "model.toml")
    files["policy"] = folder / "policy.toml"
    files["policy"].write_text(
        '[gate]\nmodels = ["digits-plain"]\ndata = "digits"\nn = 20\ntime_budget = "10m"\n\n[[gate.require]]\n'
        'name = "robust"\nnorm = "linf"\neps = "8/255"\nattacked_accuracy = 0.5\nplan = "pgd:10"\n',
        encoding="utf-8",
    )
    files["vnnlib"] = folder / "p.vnnlib"
    files["vnnlib"].write_text(_property(), encoding="utf-8")
    files["npz"] = folder / "x.npz"
    np.savez(files["npz"], x=np.random.default_rng(0).random((8, 1, 6, 6), dtype=np.float32), y=np.arange(8) % 3)
    return files


def _property() -> str:
    lines = [f"(declare-const X_{i} Real)" for i in range(4)] + [f"(declare-const Y_{i} Real)" for i in range(3)]
    lines += [f"(assert (>= X_{i} 0.1))\n(assert (<= X_{i} 0.9))" for i in range(4)]
    return "\n".join([*lines, "(assert (or (and (<= Y_0 Y_1)) (and (<= Y_0 Y_2) (>= Y_1 0.5))))"])


def _shapes_onnx() -> bytes:
    """A graph that computes sizes: Shape, Gather, Concat, Reshape, Expand, ConstantOfShape, If and a function."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    node = helper.make_node
    then = helper.make_graph([node("Identity", ["w"], ["chosen"])], "then", [], [
        helper.make_tensor_value_info("chosen", TensorProto.FLOAT, [36, 3])])  # fmt: skip
    twice = helper.make_function("local", "Twice", ["a"], ["b"], [node("Add", ["a", "a"], ["b"])],
                                 [helper.make_opsetid("", 17)])  # fmt: skip
    nodes = [
        node("Shape", ["x"], ["s"]), node("Gather", ["s", "zero"], ["n"], axis=0),
        node("Concat", ["n", "rest"], ["t"], axis=0), node("Reshape", ["x", "t"], ["flat"]),
        node("Twice", ["flat"], ["double"], domain="local"),
        node("If", ["yes"], ["v"], then_branch=then, else_branch=then),
        node("MatMul", ["double", "v"], ["z"]), node("ConstantOfShape", ["t3"], ["c"]),
        node("Expand", ["c", "t3"], ["e"]), node("Add", ["z", "e"], ["y"]),
    ]  # fmt: skip
    constants = {"zero": np.array([0]), "rest": np.array([-1]), "yes": np.array(True), "t3": np.array([1, 3]),
                 "w": np.random.default_rng(0).normal(size=(36, 3)).astype(np.float32)}  # fmt: skip
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )  # fmt: skip
    return helper.make_model(
        graph,
        functions=[twice],
        ir_version=8,
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("local", 1)],
    ).SerializeToString()


def _external_onnx(source: Path, target: Path) -> None:
    import onnx

    model = onnx.load(str(source))
    onnx.save(model, str(target), save_as_external_data=True, location="external.bin", size_threshold=0)


def mutate(kind: str, content: bytes, draw: random.Random) -> bytes:
    """Damage to the file, or to one file in an archive: whole again, so that what is in it is read."""
    import fuzz_grammar

    if draw.random() < 0.5:
        said = fuzz_grammar.mutate(kind, content, draw)
        if said is not None:
            return said
    if not content.startswith(b"PK") or draw.random() < 0.3:
        return damage(content, draw)
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(written, "w") as copy:
        names = [info.filename for info in archive.infolist() if info.file_size]
        chosen = draw.choice(names)
        for name in archive.namelist():
            inside = archive.read(name)
            copy.writestr(name, damage(inside, draw) if name == chosen else inside)
    return written.getvalue()


def damage(content: bytes, draw: random.Random) -> bytes:
    """One of several kinds."""
    data = bytearray(content)
    kind = draw.randrange(8)
    if kind == 0:
        del data[draw.randrange(len(data)) :]
    elif kind == 1:
        for _ in range(draw.choice((1, 2, 8, 64))):
            data[draw.randrange(len(data))] = draw.randrange(256)
    elif kind == 2:  # an integer becomes an extreme one
        at, width = draw.randrange(len(data)), draw.choice((1, 2, 4, 8))
        data[at : at + width] = draw.choice((b"\xff", b"\x7f", b"\x00", b"\x80")) * width
    elif kind == 3:  # a part twice
        a, b = sorted(draw.randrange(len(data)) for _ in range(2))
        data[draw.randrange(len(data)) : 0] = data[a : min(b, a + 4096)]
    elif kind == 4:  # a part missing
        a = draw.randrange(len(data))
        del data[a : a + draw.choice((1, 4, 16, 256))]
    elif kind == 5:  # numbers in text
        digits = [i for i, c in enumerate(data) if 48 <= c <= 57] or [0]
        at = draw.choice(digits)
        data[at : at + 1] = draw.choice((b"99999999999999", b"-1", b"0", b"1e30", b"nan"))
    elif kind == 6:  # two places swapped
        a, b = draw.randrange(len(data)), draw.randrange(len(data))
        data[a], data[b] = data[b], data[a]
    else:  # a varint as protobuf writes sizes
        at = draw.randrange(len(data))
        data[at : at + 1] = draw.choice((b"\xff\xff\xff\xff\x0f", b"\x80\x80\x80\x80\x80\x80\x01", b"\xff\xff\x7f"))
    return bytes(data)


def read(kind: str, path: Path) -> None:
    """Give a file to the function that reads its kind; check what it made of it."""
    import torch

    from robcert.network import load_model

    if kind == "policy":
        from robcert.policy.load import load_policy

        load_policy(path)
    elif kind == "toml":
        from robcert.network.card import read_toml

        read_toml(path)
    elif kind == "vnnlib":
        from robcert.verification.parse import read_vnnlib

        read_vnnlib(path)
    elif kind == "npz":
        from robcert.data import load_dataset

        load_dataset(f"npz:{path}", n=None, seed=0)
    else:
        arch = (
            None
            if kind in ("onnx", "onnx.text", "onnx.external", "script.pt", "export.pt2", "registered")
            else "fuzznets:net"
        )
        model = load_model(path, arch=arch, input_shape=(1, 6, 6))
        logits = model.module(torch.zeros(3, 1, 6, 6))
        assert logits.shape == (3, model.num_classes)


def worker(first: int, last: int, folder: Path, forbid: bool) -> None:
    """Files ``first`` to ``last``; one line of JSON for each, on a channel that no library prints to.

    Each is written by the process that started this one, when it is told that the file before it is done.
    """
    warnings.simplefilter("ignore")
    import torch

    from robcert.errors import RobcertError

    torch.set_num_threads(1)
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    files = json.loads((folder / "files.json").read_text())
    kinds = sorted(files)
    for kind in kinds:  # imports are not what is timed
        if not kind.startswith("trap"):
            with contextlib.suppress(RobcertError):
                read(kind, Path(files[kind]))
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)  # so that a fault does not take the machine with it
    resource.setrlimit(resource.RLIMIT_DATA, (base + 2 * MOST_MEMORY, hard))
    if forbid:
        import fuzz_sandbox

        fuzz_sandbox.enter()
    for number in range(first, last):
        kind = kinds[number % len(kinds)]
        path = folder / f"case{Path(files[kind]).suffix}"
        print(json.dumps({"number": number, "kind": kind, "wanted": True}), file=channel)
        if not sys.stdin.readline():
            return
        began = time.process_time()
        signal.alarm(math.ceil(6 * MOST_SECONDS))  # ends the process, also where it hangs outside of Python
        try:
            read(kind, path)
            result, fault = "loaded", ""
        except RobcertError as error:
            result = "refused"
            whole = number < len(kinds) and not kind.startswith("trap")
            fault = f"undamaged, and refused: {str(error)[:300]}" if whole else ""
            fault = fault or ("" if str(error).strip() else "an empty message")
        except BaseException as error:
            result, fault = "fault", f"{type(error).__name__}: {str(error)[:300]}"
        seconds = time.process_time() - began
        memory = max(0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - base)
        fault = fault or (f"{seconds:.1f} s" if seconds > MOST_SECONDS else "")
        fault = fault or (f"{memory / 1e9:.1f} GB" if memory > MOST_MEMORY else "")
        fault = fault or ("code of the file ran" if (folder / SPRUNG).exists() else "")
        print(json.dumps({"number": number, "kind": kind, "result": result, "fault": fault,
                          "seconds": seconds, "memory": memory}), file=channel)  # fmt: skip


def run(files: int, seed: int, say: Callable[[str], None] = print) -> list[str]:
    """All files in worker processes; returns the faults."""
    faults: list[str] = []
    counts: Counter[tuple[str, str]] = Counter()
    slowest, most = 0.0, 0.0
    import fuzz_sandbox

    forbid = fuzz_sandbox.available()
    if not forbid:
        say("this system cannot forbid a process to write, start and connect: only the folder is watched")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sys.path.insert(0, name)
        good = good_files(folder)
        (folder / "files.json").write_text(json.dumps({kind: str(path) for kind, path in good.items()}))
        allowed = {p.name for p in folder.iterdir()} | {f"case{p.suffix}" for p in good.values()} | {"__pycache__"}
        first = 0
        while first < files:
            command = [sys.executable, __file__, "--worker", str(first), str(files), name, str(int(forbid))]
            with subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
            ) as process:  # fmt: skip
                assert process.stdout is not None
                assert process.stdin is not None
                begun: dict[str, Any] = {}
                for line in process.stdout:
                    begun = json.loads(line)
                    if "result" not in begun:
                        number, source = begun["number"], good[begun["kind"]]
                        content = source.read_bytes()
                        if number >= len(good):
                            content = mutate(begun["kind"], content, random.Random(f"{seed} {number}"))
                        (folder / f"case{source.suffix}").write_bytes(content)
                        process.stdin.write("\n")
                        process.stdin.flush()
                        continue
                    first = begun["number"] + 1
                    counts[begun["kind"], begun["result"]] += 1
                    slowest, most = max(slowest, begun["seconds"]), max(most, begun["memory"])
                    if begun["fault"]:
                        faults.append(f"file {begun['number']} ({begun['kind']}): {begun['fault']}")
                process.wait()
            if first < files:
                faults.append(f"file {first} ({begun.get('kind')}): the process ended with code {process.returncode}")
                first += 1
            left = sorted(p.name for p in folder.iterdir() if p.name not in allowed)
            if left:
                faults.append(f"files appeared: {', '.join(left[:5])}")
                for item in left:
                    shutil.rmtree(folder / item, ignore_errors=True)
        sys.path.remove(name)
    for kind in sorted({k for k, _ in counts}):
        say(f"{kind:14} loaded {counts[kind, 'loaded']:6}   refused {counts[kind, 'refused']:6}")
    say(
        f"{files} files, slowest {slowest:.2f} s, most memory {most / 1e6:.0f} MB above the start, {len(faults)} faults"
    )
    return faults


def main() -> None:
    """The command."""
    if sys.argv[1:2] == ["--worker"]:
        first, last, folder, forbid = sys.argv[2:6]
        worker(int(first), int(last), Path(folder), forbid == "1")
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    warnings.filterwarnings("ignore", "Duplicate name", module="zipfile")  # a fault that is made on purpose
    faults = run(given.files, given.seed)
    for fault in faults:
        print(fault)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
