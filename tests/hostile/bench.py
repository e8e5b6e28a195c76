"""The folder of a case and the process that runs its jobs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.hostile.table import Case, Place
from tests.hostile.watch import Seen, folders

CANARY = """import os, pathlib
pathlib.Path(os.environ["CANARY"], "imported").write_text("imported")


def factory(*arguments, **options):
    pathlib.Path(os.environ["CANARY"], "called").write_text("called")
"""


class Bench:
    """A server process, started once: `run` a case through robcert, or through its control."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        here = Path(__file__).resolve().parents[2]
        path = os.pathsep.join([str(here), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "120"}
        environment |= {"MPLCONFIGDIR": str(self.folder / "matplotlib"), "PYTHONDONTWRITEBYTECODE": "1"}
        environment.pop("ROBCERT_DATA", None)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.server"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=here,
        )  # fmt: skip
        self.watch: str = self._read()["watch"]

    def place(self, name: str) -> Place:
        """A fresh place for a case, with the canary module in its working directory."""
        place = Place(self.folder / name)
        folders(place.root)
        (place.work / "canary.py").write_text(CANARY)
        return place

    def command(self, place: Place, *argv: str, kind: str = "robcert", **more: Any) -> Seen:
        """What a command of robcert did in a place; as "installed" in a Python of its own."""
        return self.job(place, {"kind": kind, "argv": argv, "starts": int(kind == "installed"), **more})

    def case(self, case: Case, kind: str = "robcert") -> tuple[Place, Path, Seen]:
        """Build a case and give it to robcert."""
        place = self.place(f"{case.name}-{kind}")
        path = case.build(place)
        argv = [one.format(file=path) for one in case.argv]
        return place, path, self.command(place, *argv, kind=kind, seconds=case.seconds, environment=case.environment)

    def control(self, case: Case) -> Seen:
        """Build a case and give it to its control."""
        place = self.place(f"{case.name}-control")
        job = {"kind": "control", "control": case.control, "path": str(case.build(place))}
        return self.job(place, {**job, "environment": case.environment})

    def job(self, place: Place, job: dict[str, Any]) -> Seen:
        """Have the server fork for a job."""
        assert self.process.stdin is not None
        environment = {"CANARY": str(place.root / "canary"), **dict(job.get("environment", ()))}
        line = {"seconds": 40, **job, "root": str(place.root), "environment": environment}
        self.process.stdin.write(json.dumps(line) + "\n")
        self.process.stdin.flush()
        return Seen(**self._read())

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the server has ended"
        return json.loads(line)
