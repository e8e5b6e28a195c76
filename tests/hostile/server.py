"""One process that has imported everything and forks a watched one per job: `python -m tests.hostile.server`.

A line of JSON in is a job, a line of JSON out what was seen of it.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import pkgutil
import sys
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from tests.hostile import seccomp
from tests.hostile.watch import watched


def serve() -> None:
    """Answer jobs until the input ends."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.path[:] = [str(Path(one).resolve()) if one else str(Path.cwd()) for one in sys.path]
    mode = "seccomp" if seccomp.available() else "audit"
    _import_everything()
    replies.write(json.dumps({"watch": mode}) + "\n")
    replies.flush()
    for line in sys.stdin:
        job = json.loads(line)
        watch = job.get("watch", mode)
        seen = watched(Path(job["root"]), _task(job), watch, job["environment"], job["seconds"], job.get("starts", 0))
        replies.write(json.dumps(seen.as_dict()) + "\n")
        replies.flush()


def _task(job: dict[str, Any]) -> Callable[[], int]:
    if job["kind"] == "installed":

        def program() -> int:
            os.environ.pop("TORCHINDUCTOR_CACHE_DIR", None)  # torch's, from the imports of this process
            os.execv(sys.executable, [sys.executable, "-m", "robcert.cli.main", *job["argv"]])

        return program
    if job["kind"] == "robcert":

        def command() -> int:
            from robcert.cli.main import run

            sys.argv = ["robcert", *job["argv"]]
            run()
            return 0

        return command

    if job["kind"] == "python":

        def code() -> int:
            names = ("ctypes", "multiprocessing", "os", "socket", "subprocess", "tempfile", "threading", "torch")
            exec(job["code"], {name: importlib.import_module(name) for name in names})
            return 0

        return code

    def control() -> int:
        from tests.hostile.controls import CONTROLS

        CONTROLS[job["control"]](Path(job["path"]))
        return 0

    return control


def _import_everything() -> None:
    """So that a job costs no imports."""
    import robcert
    import robcert.cli.main

    for module in pkgutil.walk_packages(robcert.__path__, "robcert."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    from robcert.vision import torchvision

    torchvision()
    import torch
    import typer.main
    from matplotlib import font_manager
    from onnx import checker, shape_inference
    from onnxruntime import InferenceSession
    from PIL import EpsImagePlugin, Image

    from tests.hostile import controls
    from tests.hostile.files import good

    unused = (InferenceSession, EpsImagePlugin, Image, checker, shape_inference, controls, font_manager)
    assert all(one is not None for one in unused)
    typer.main.get_command = lru_cache(typer.main.get_command)  # the tree of commands: half of the time of a job
    x = torch.zeros(2, 1, 8, 8)
    with tempfile.TemporaryDirectory() as folder:
        for name, body in (("good.pt2", good.good_pt2()), ("good.pt", good.good_script())):
            path = Path(folder) / name
            path.write_bytes(body)
            robcert.load_model(path, input_shape=(1, 8, 8))
        # torch imports more on first use.
        torch.export.load(Path(folder) / "good.pt2").module()(x)
        torch.jit.load(Path(folder) / "good.pt")(x)
    with contextlib.suppress(SystemExit), contextlib.redirect_stderr(io.StringIO()):
        sys.argv = ["robcert", "norms", "no model"]
        robcert.cli.main.run()


if __name__ == "__main__":
    serve()
