"""No module imports another one that imports it."""

from __future__ import annotations

import subprocess
import sys

import grimp


def test_there_are_no_circles() -> None:
    graph = grimp.build_graph("robcert", exclude_type_checking_imports=True)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules - {"robcert"}}
    assert len(imports) > 300
    left = dict(imports)
    while left:  # what imports nothing that is left is no part of a circle
        free = {module for module, imported in left.items() if not imported & left.keys() - {module}}
        assert free, f"among these modules is a circle: {sorted(left)}"
        left = {module: imported for module, imported in left.items() if module not in free}


def _imported(code: str) -> set[str]:
    """The modules that a fresh interpreter has after some lines."""
    lines = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_records_are_read_and_rendered_without_what_made_them() -> None:
    """A finished run that is shown again, and a report, import no method, no prover and no search of detection."""
    found = _imported("from robcert.reports import renderers\nrenderers.names()")
    assert "robcert.reports.page.report" in found
    made = {"robcert.certificates.best", "robcert.verification.solve", "robcert.sensitivity.detection"}
    assert not found & {*made, "robcert.bounds.lipschitz.network_bound", "scipy", "torch._dynamo"}


def test_one_that_is_named_is_imported_alone() -> None:
    found = _imported("from robcert.attacks import attacks\nattacks.get('fgsm')")
    assert "robcert.attacks.cw" not in found
    assert "robcert.attacks.cw" in _imported("from robcert.attacks import attacks\nattacks.names()")
