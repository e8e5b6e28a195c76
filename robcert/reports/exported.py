"""The output of `robcert export`."""

from __future__ import annotations

import json

from robcert.network.convert import Exported
from robcert.reports import renderer


@renderer("console", Exported)
def render_export(done: Exported) -> str:
    """Return the file, its digest, and how it was checked."""
    return (
        f"{done.path}: {done.size:,} bytes, sha256 {done.sha256[:16]}...\n"
        f"Loaded again: logits differ by at most {done.difference:.1e} of the largest.\nRuns with {done.runs}."
    )


@renderer("json", Exported)
def render_export_json(done: Exported) -> str:
    """Return the JSON text."""
    return json.dumps(done.as_json(), indent=2)
