"""What else comes from strangers: run directories, policies, baselines, configurations, properties."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from tests.hostile.files.data import pickled_npz
from tests.hostile.files.good import archive, members
from tests.hostile.files.pt2 import torch_pickle
from tests.hostile.table import Place, hostile

RUNS = "docs/runs.md: run.json, record.json, network-NAME.pt2"
COMPARE = ("compare", "{file}")


@lru_cache
def good_run() -> Path:
    """A run directory as robcert.attack writes it."""
    import robcert

    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    model, images = robcert.load_model("digits-plain"), robcert.load_dataset("digits", n=4, seed=0)
    threat = robcert.Threat("l2", (0.5,))
    robcert.attack(model, images, threat, "pgd:2", goal="minimize", certify="none", run=str(folder / "run"))
    return folder / "run"


def copied(place: Place, **changes: Any) -> Path:
    """The good run; changes are keys of its specification."""
    folder = place.files / "run"
    shutil.copytree(good_run(), folder)
    for name in ("run.json", "record.json"):
        if changes.get(name):
            found = json.loads((folder / name).read_text())
            changes[name](found)
            (folder / name).write_text(json.dumps(found))
    return folder


def with_network(place: Place, name: str, body: bytes) -> Path:
    """The good run with one member of its stored network replaced."""
    folder = copied(place)
    path = folder / "network-digits-plain.pt2"
    return archive(path, {**members(path.read_bytes()), name: body}).parent


@hostile("run-network-inputs", "run", "the stored network has pickled sample inputs", RUNS, control="pt2_of_run", argv=COMPARE)  # fmt: skip
def _(place: Place) -> Path:
    return with_network(place, "data/sample_inputs/model.pt", torch_pickle(place))


@hostile("run-network-guards", "run", "the stored network has guards that are code", RUNS, control="pt2_of_run", loads=True, argv=COMPARE)  # fmt: skip
def _(place: Place) -> Path:
    program = json.loads(members((good_run() / "network-digits-plain.pt2").read_bytes())["models/model.json"])
    return with_network(place, "models/model.json", json.dumps(program | {"guards_code": [place.code]}).encode())


@hostile("run-arch", "run", "the specification names a factory of the working directory", RUNS, control="old_run", loads=True, argv=COMPARE)  # fmt: skip
def _(place: Place) -> Path:
    def change(found: dict[str, Any]) -> None:
        found["models"][0]["arch"] = found["models"][0]["architecture"] = "canary:factory"

    return copied(place, **{"run.json": change})


@hostile("run-data", "run", "the specification names data that are pickles", RUNS, control="data_of_run", argv=COMPARE)
def _(place: Place) -> Path:
    name = f"npz:{pickled_npz(place)}"

    def change(found: dict[str, Any]) -> None:
        found["data"]["name"] = name

    return copied(place, **{"run.json": change, "record.json": change})


@hostile("run-name", "run", "the name of a model climbs out of the run", RUNS, argv=("show", "{file}"))
def _(place: Place) -> Path:
    (place.root / "canary").mkdir(exist_ok=True)

    def change(found: dict[str, Any]) -> None:
        found["models"][0]["name"] = "../../../canary/x"

    return copied(place, **{"run.json": change, "record.json": change})


@hostile("run-script", "run", "names that are HTML with a script", "owasp.org: cross-site scripting", loads=True, docs=True, argv=("report", "{file}"), allowed=("work/report.html", "work/.report.html.tmp"))  # fmt: skip
def _(place: Place) -> Path:
    name = "x<script>alert(1)</script>"

    def change(found: dict[str, Any]) -> None:
        found["models"][0]["name"] = name
        found["data"]["name"] = f'{name}"><img src=x onerror=alert(1)>'

    return copied(place, **{"run.json": change, "record.json": change})


@hostile("record-deep", "run", "a record nested 100,000 deep", RUNS, cost=True, argv=("report", "{file}"))
def _(place: Place) -> Path:
    folder = copied(place)
    (folder / "record.json").write_text('{"a":' * 100_000 + "1" + "}" * 100_000)
    return folder


@hostile("config-plugins", "text", "a configuration that asks for a plugin", "docs/configuration.md", docs=True, argv=("norms", "digits-plain"))  # fmt: skip
def _(place: Place) -> Path:
    path = place.work / "robcert.toml"
    path.write_text('[norms]\nplugins = ["canary"]\nimport = "canary"\n')
    return path


@hostile("policy-kind", "text", "a requirement of a kind that names a module", "docs/gate.md", docs=True, argv=("gate", "--policy", "{file}"))  # fmt: skip
def _(place: Place) -> Path:
    path = place.files / "policy.toml"
    path.write_text(
        '[gate]\nmodels = ["digits-plain"]\ndata = "digits"\nn = 5\n[[gate.require]]\nkind = "canary:factory"\n'
    )
    return path


@hostile("baseline-types", "text", "a baseline whose numbers are calls", "docs/gate.md: baseline", argv=("gate", "--policy", "{file}"))  # fmt: skip
def _(place: Place) -> Path:
    (place.files / "baseline.json").write_text(
        json.dumps({"schema": "robcert.baseline/1", "entries": {"py/object": "os.system", "py/args": [place.shell]}})
    )
    path = place.files / "policy.toml"
    path.write_text(
        '[gate]\nmodels = ["digits-plain"]\ndata = "digits"\nn = 5\nbaseline = "baseline.json"\n'
        '[[gate.require]]\nnorm = "l2"\neps = 0.25\nattacked_accuracy_drop = 0.02\nplan = "pgd:1"\n'
    )
    return path


def prop(place: Place, text: str) -> Path:
    path = place.files / "property.vnnlib"
    path.write_text(text)
    return path


@hostile("vnnlib-call", "text", "a property with a call in it", "vnnlib.org: the language", docs=True, argv=("verify", "digits-plain", "{file}"))  # fmt: skip
def _(place: Place) -> Path:
    return prop(place, f'(declare-const X_0 Real)\n(assert (<= X_0 {place.code}))\n(include "/etc/passwd")\n')


@hostile("vnnlib-deep", "text", "a property nested 100,000 deep", "vnnlib.org", cost=True, argv=("verify", "digits-plain", "{file}"))  # fmt: skip
def _(place: Place) -> Path:
    return prop(place, "(assert " + "(or " * 100_000 + ")" * 100_001)


@hostile("vnnlib-terminal", "text", "a property whose words clear the terminal", "xterm ctlseqs: control sequences", docs=True, argv=("verify", "digits-plain", "{file}"))  # fmt: skip
def _(place: Place) -> Path:
    return prop(place, "(declare-const X_0 Real)\n(assert (<= X_0 \x1b[2J\x9b2J))\n")
