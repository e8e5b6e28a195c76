"""A threat norm that operators have no norm in takes nothing away from the others."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from robcert import types

L0 = """
import json, sys
from pathlib import Path
from types import ModuleType

path, name = Path(sys.argv[1]), "robcert.types"
text = path.read_text(encoding="utf-8")
declared = 'ThreatNorm = Literal["l2", '
assert text.count(declared) == 1
changed = sys.modules[name] = ModuleType(name)
exec(compile(text.replace(declared, declared + '"l0", '), str(path), "exec"), changed.__dict__)

import robcert
from robcert.attacks import attacks
from robcert.certificates import certificates
from robcert.runs.proof import prove
from robcert.bracket import Bracket
from robcert.types import BOUND_NORMS, THREAT_NORMS, Threat

assert set(THREAT_NORMS) - set(BOUND_NORMS) == {"l0"}
model, data = robcert.load_model("digits-plain"), robcert.load_dataset("digits", n=6)
found = {}
for name, kind in attacks.items():
    if "l2" in kind.norms and name != "evasive-cw":
        record = robcert.attack(model, data, Threat("l2", (0.6,)), f"{name}:20", certify="gap").models[0]
        found[name] = [record.verdicts.model_dump(), record.certificate.method]
bracket = Bracket(data.index)
refused = prove("gap", model, data, Threat("l0", (3.0,)), bracket).refused
print(json.dumps({"found": found, "refused": refused, "radius": float(bracket.radius.max())}))
"""


@pytest.fixture(scope="module")
def with_l0() -> dict[str, object]:
    """What a process says in which "l0" is a threat norm, and no operator has a norm in it."""
    done = subprocess.run(
        [sys.executable, "-c", L0, str(Path(types.__file__))], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_every_l2_attack_works_beside_a_norm_without_constants(
    with_l0: dict[str, dict[str, list[dict[str, int]]]],
) -> None:
    found = with_l0["found"]
    assert {"pgd", "cw", "fab", "boundary"} <= found.keys()
    for name, (verdicts, method) in found.items():
        assert sum(verdicts.values()) == 6, name
        assert method == "gap"
    assert found["pgd"][0]["broken"] > 0


def test_a_certificate_refuses_a_norm_without_constants(with_l0: dict[str, object]) -> None:
    assert with_l0["refused"] == "there are certificates in l2, linf, l1, not in l0"
    assert with_l0["radius"] == 0
