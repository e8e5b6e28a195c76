"""What robcert finds on its zoo: recorded once, and compared with what another version of it finds.

    python benchmarks/reference.py record before.json
    python benchmarks/reference.py compare before.json      # after a change that is to change nothing
    python benchmarks/reference.py record tests/e2e/reference.json --tenth      # what the default tests compare with
    python benchmarks/reference.py compare before.json --only certify,digits-at

Everything goes through the command line, whose flags and json stay, one thread each: radii of every certificate
without a limit of time, in three norms; smoothing with a seed; statuses of best and of branch and bound; statuses,
distances and bytes of the examples of two plans. Numbers are equal to the last bit, or they are listed and the exit
code is 1; on a machine whose sums come out in another order than on that of the record (``arithmetic``), to a relative
1e-3, examples apart.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.metadata
import io
import json
import math
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

DIGITS = ("digits-plain", "digits-at", "digits-l2nnn")
CNNS = ("mnist-plain", "mnist-at", "mnist-l2at")
L2NNNS = ("mnist-l2nnn", "mnist-l2nnn-at", "mnist-l2nnn-resnet")
NORMS = ("l2", "linf", "l1")
EPS = {"digits": {"l2": "0.5", "linf": "0.08", "l1": "1.5"}, "mnist": {"l2": "1.5", "linf": "0.1", "l1": "5"}}
CLOSE = 1e-3


@dataclass(frozen=True)
class Case:
    """A command: its name, its arguments without the number of images, and how many images it takes."""

    name: str
    arguments: tuple[str, ...]
    n: int

    @property
    def attack(self) -> bool:
        """Whether it leaves a run with examples."""
        return self.arguments[0] == "attack"


def cases() -> list[Case]:
    """All of them; fewer images where a method takes minutes for 50, and no CROWN where it takes minutes for one."""
    return [case for model in (*DIGITS, *CNNS, *L2NNNS) for case in _of(model)]


def _of(model: str) -> list[Case]:
    digits, wide = model in DIGITS, model in L2NNNS
    found: list[Case] = []
    for norm in NORMS:
        eps = EPS[model.partition("-")[0]][norm]
        gap = ("certify", model, "--norm", norm, "--eps", eps, "--method", "gap")
        certify = (*gap[:-2], "--time-per-image", "100000", "--method")
        found.append(Case(f"{model} {norm} gap", gap, 50))
        for method, n in (
            ("ibp", 30 if digits else 8 if not wide else 4),
            ("crown-ibp", 30 if digits else 5 if not wide else 2),
            ("crown", 10 if digits else 2),
            ("alpha-crown", 3 if digits else 1),
        ):
            if not wide or method in ("ibp", "crown-ibp"):
                found.append(Case(f"{model} {norm} {method}", (*certify, method, "--goal", "radius"), n))
        if not wide and norm != "l1":
            easy = (*certify[:5], f"{float(eps) / 4:g}", *certify[6:])  # at eps itself it may search for hours
            found += [
                Case(f"{model} {norm} {method}", (*easy, method), 10 if digits else 2) for method in ("bab", "best")
            ]
        found += [
            Case(
                f"{model} {norm} {plan}",
                ("attack", model, "--norm", norm, "--eps", eps, "--plan", plan, "--search-precision", "float32",
                 "--threads", "1", "--certify", "none", "--goal", goal),
                n,
            )
            for plan, goal, n in (
                ("cw:100,pgd:20x2", "minimize", 100 if digits else 20),
                ("strong", "decide", 30 if digits else 8),
            )
            if norm == "l2" or (norm == "linf" and plan == "strong" and not wide)
        ]  # fmt: skip
    smoothing = (
        "certify",
        model,
        "--eps",
        "0.25",
        "--method",
        "smoothing",
        "--samples",
        "1000",
        "--confidence",
        "0.99",
    )
    return [*found, Case(f"{model} smoothing", smoothing, 50 if digits else 10)]


def tenth() -> list[Case]:
    """Those of the default tests, which take a tenth of the images."""
    return [case for case in _of("digits-at") if not case.name.endswith(("strong", "alpha-crown"))]


def found_by(case: Case, few: bool) -> dict[str, Any]:
    """What a command finds: (index, status or prediction, numbers) an image, and a digest of the examples' bytes."""
    n = max(1, case.n // 10) if few else case.n
    with tempfile.TemporaryDirectory() as folder:
        run = ["--run", f"{folder}/run"] if case.attack else []
        code, said = _command(*case.arguments, "--n", str(n), *run, "--format", "json")
        if code:
            return {"refused": said.splitlines()[0] if said else f"exit code {code}"}
        (model,) = json.loads(said)["models"]
        if case.attack:
            images = [[i["index"], i["status"], i["distance"]] for i in model["images"]]
            return {"images": images, "examples": _digest(Path(folder) / "run")}
        kept = ("radius", "radius_real", "gap")
        images = [[i["index"], i["prediction"], *(i.get(key) for key in kept)] for i in model["images"]]
        return {"images": images, "certified": model["certified_correct"], "not": model["refused"]}


def _command(*arguments: str) -> tuple[int, str]:
    """The installed command, in this process, which has torch loaded already."""
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="robcert")
    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["robcert", *arguments]
    code: Any = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = script.load()()
    except SystemExit as exit_:
        code = exit_.code
    finally:
        sys.argv = before
    return (int(code or 0), out.getvalue()) if not code else (int(code), err.getvalue())


def _digest(run: Path) -> str:
    from safetensors import safe_open

    digest = hashlib.sha256()
    for path in sorted(run.glob("adversarials-*.safetensors")):
        with safe_open(str(path), framework="np") as file:  # pyright: ignore[reportUnknownVariableType]
            digest.update(file.get_tensor("adversarial").tobytes())  # pyright: ignore
    return digest.hexdigest()


def arithmetic() -> str:
    """A digest of sums of this machine: where it is another one, the last bits of everything may be."""
    import torch

    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(64, 700, generator=generator), torch.randn(700, 90, generator=generator)
    image, kernel = torch.randn(8, 16, 14, 14, generator=generator), torch.randn(32, 16, 3, 3, generator=generator)
    digest = hashlib.sha256(torch.__version__.encode())
    for tensor in (a @ b, a[:8] @ b, a.double() @ b.double(), torch.conv2d(image, kernel), a.exp().sum(1)):
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def differences(before: dict[str, Any], after: dict[str, Any], exact: bool) -> list[str]:
    """What is not the same, a line each."""
    if before.keys() != after.keys():
        return [f"was {_short(before)}, is {_short(after)}"]
    lines: list[str] = []
    for key, old in before.items():
        new = after[key]
        if key == "images" and len(old) != len(new):
            lines.append(f"was {_short(before)}, is {_short(after)}")
        elif key == "images":
            lines += [
                f"image {was[0]}: was {was[1:]}, is {now[1:]}"
                for was, now in zip(old, new, strict=True)
                if not all(_same(a, b, exact) for a, b in zip(was, now, strict=True))
            ]
        elif old != new and key != "refused" and (exact or key != "examples"):
            lines.append(f"{key}: was {old}, is {new}")
    return lines


def _short(found: dict[str, Any]) -> str:
    return found.get("refused", f"{len(found.get('images', []))} images")


def _same(was: Any, now: Any, exact: bool) -> bool:
    if exact or not isinstance(was, float) or not isinstance(now, float):
        return bool(was == now)
    return math.isclose(was, now, rel_tol=CLOSE, abs_tol=1e-6)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["record", "compare"])
    parser.add_argument("file", type=Path)
    parser.add_argument("--tenth", action="store_true", help="one network's quick cases, with a tenth of the images")
    parser.add_argument("--only", default="", help="cases whose names have all these words, comma-separated")
    options = parser.parse_args()
    words = [word for word in options.only.split(",") if word]
    record = options.what == "record"
    chosen = tenth() if record and options.tenth else cases()
    chosen = [case for case in chosen if all(word in case.name for word in words)]
    stored: dict[str, Any] = {"tenth": options.tenth, "cases": {}} if record else json.loads(options.file.read_text())
    exact = record or stored["arithmetic"] == arithmetic()
    wrong, start = 0, time.monotonic()
    chosen = [case for case in chosen if record or case.name in stored["cases"]]  # what is compared is counted
    for case in chosen:
        begun = time.monotonic()
        found = found_by(case, stored["tenth"])
        lines = [] if record else differences(stored["cases"][case.name], found, exact)
        stored["cases"][case.name] = found
        wrong += bool(lines)
        print(f"{time.monotonic() - begun:6.1f} s  {case.name}{f': {len(lines)} differ' if lines else ''}", flush=True)
        for line in lines[:5]:
            print(f"          {line}", flush=True)
    print(f"{len(chosen)} commands, {wrong} differ, {'to the last bit' if exact else 'to a relative 1e-3'}", end="")
    print(f", {time.monotonic() - start:.0f} s")
    if record:
        stored["arithmetic"] = arithmetic()
        options.file.write_text(json.dumps(stored, indent=1) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
