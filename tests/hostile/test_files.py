"""No hostile file writes, starts, connects or imports, and each ends in one clear error or as a harmless model.

The files were written without looking at robcert's loaders: from the documentation of the formats and from the sources
of torch, onnx and Python. `control` shows for most that they are live: without robcert's check they act, and are seen.
"""

from __future__ import annotations

import re
import signal
from collections import Counter
from collections.abc import Container, Sequence

import pytest

from tests.hostile import files
from tests.hostile.bench import Bench
from tests.hostile.files import good, onnx_, pickles
from tests.hostile.table import CASES, NORMS, SHAPED, WEIGHTS, Case
from tests.hostile.watch import Seen

ENDLESS = {"script-endless", "onnx-loop"}
SLOW = ENDLESS | {"pickle-recursion", "card-timm-pretrained"}  # seconds each
ALIVE = [name for name, case in CASES.items() if case.alive]
SHOWN = ALIVE[::2]  # the controls of the default set; the others are slow
INSTALLED = ["pickle-system", "card-os-system", "script-save-spaces", "pt2-tree-enum", "onnx-profiling"]


def chosen(names: Sequence[str], default: Container[str]) -> list[object]:
    """Parameters: those that are not in the default set are slow."""
    return [one if one in default else pytest.param(one, marks=pytest.mark.slow) for one in names]


def test_the_table() -> None:
    hostile = [case for case in CASES.values() if not case.cost]
    assert len(hostile) >= 60 and len(CASES) - len(hostile) >= 10  # cost is counted apart
    assert sum(case.docs for case in hostile) >= 20
    assert all(case.trick and case.source and case.form for case in hostile)
    # Live by the loaders of torch, NumPy, Pillow and onnxruntime alone, and with those of robcert's first card loader.
    alive = Counter(case.control for case in hostile if case.alive)
    assert sum(alive.values()) - alive["old_card"] - alive["extract"] - alive["old_run"] >= 45, alive
    assert len(set(SHOWN) - SLOW) >= 45
    assert {case.form for case in hostile if case.alive} >= {
        "card",
        "pickle",
        "torchscript",
        "pt2",
        "zip",
        "onnx",
        "data",
        "run",
    }
    assert not any(case.alive for case in CASES.values() if case.cost)
    assert set(files.__all__) == {"cards", "data", "onnx_", "pickles", "pt2", "runs", "torchscript", "zips"}


@pytest.mark.parametrize("name", chosen(list(CASES), CASES.keys() - SLOW))
def test_nothing_happens(bench: Bench, name: str) -> None:
    case = CASES[name]
    place, _, seen = bench.case(case)
    assert seen.effects(tuple(str(place.root / one) for one in case.allowed)) == []
    if name in ENDLESS and seen.signal == signal.SIGXCPU:
        return  # docs/security.md: it can run for ever, and that is all that it can do
    outcome(case, seen)
    for page in place.work.glob("*.html"):
        assert "<script>alert" not in page.read_text() and "<img src=x" not in page.read_text()


def outcome(case: Case, seen: Seen) -> None:
    """One clear error, or a harmless load where the case allows it."""
    said = seen.out + seen.err
    assert seen.signal == 0, f"ended by signal {seen.signal}"
    assert "Traceback" not in said and "defect of robcert" not in said, said
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", said), "control characters on the terminal"
    assert "this network was certified" not in said, "a file writes into robcert's output"
    assert seen.memory < 3 << 20, "kilobytes"
    if seen.status == 0:
        assert case.loads, f"{case.name} was taken for a good file:\n{said}"
        return
    assert seen.status in (2, 3), f"status {seen.status}:\n{said}"
    assert seen.err.count("robcert: error:") == 1, said
    assert not re.search(r"robcert: error: \w*(Error|Exception)\b", said), f"not a message of robcert:\n{said}"


@pytest.mark.parametrize("name", chosen(ALIVE, set(SHOWN) - SLOW))
def test_it_is_live(bench: Bench, name: str) -> None:
    seen = bench.control(CASES[name])
    if bench.watch == "seccomp" or CASES[name].control not in ("jit", "jit_training"):
        assert seen.effects(), f"{name} does nothing without robcert's check either:\n{seen.out}{seen.err}"
    else:
        assert seen.changed  # C++ raises no events of Python, but the folders are compared


@pytest.mark.parametrize("name", chosen(INSTALLED, INSTALLED[:1]))
def test_the_installed_command(bench: Bench, name: str) -> None:
    place, _, seen = bench.case(CASES[name], kind="installed")
    allowed = [place.root / one for one in CASES[name].allowed]
    allowed += (place.root / "temporary").glob("torchinductor_*")  # torch makes an empty folder when it is imported
    if name.startswith("onnx-"):  # onnxruntime's telemetry numbers the machine, whatever it is given
        allowed += [place.root / "temporary" / ".ses", place.root / "home" / ".cache" / "Microsoft"]
    effects = seen.effects(tuple(map(str, allowed)))
    assert [one for one in effects if one != str(place.root / "home" / ".cache")] == []  # the folder alone
    outcome(CASES[name], seen)


@pytest.mark.parametrize("form", ["card", "checkpoint", "pt2", "torchscript", "onnx"])
def test_the_good_file_is_read(bench: Bench, form: str) -> None:
    """What the hostile files were made from is a model, so it is the trick that is refused."""
    place = bench.place(f"good-{form}")
    path, argv = place.files / "model", NORMS
    if form == "card":
        path = files.cards.safetensors(place)
    elif form == "checkpoint":
        path, argv = pickles.saved(place, good.weights()), WEIGHTS
    elif form == "onnx":
        path = onnx_.written(place, onnx_.model())
    else:
        path, argv = place.files / f"model.{form}", SHAPED if form == "torchscript" else NORMS
        path.write_bytes(good.good_pt2() if form == "pt2" else good.good_script())
    seen = bench.command(place, *(one.format(file=path) for one in argv))
    assert seen.status == 0 and seen.effects() == [], f"{seen.effects()}\n{seen.err}"
    assert "64" in seen.out and "graph bound" in seen.out


def test_a_run_of_oneself_is_compared(bench: Bench) -> None:
    place = bench.place("good-run")
    seen = bench.command(place, "compare", str(files.runs.copied(place)))
    assert seen.status == 0 and seen.effects() == [], f"{seen.effects()}\n{seen.err}"
