"""The run directory: it resumes, it refuses what is not its own, and a write that fails loses nothing."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import resource
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import robcert
from robcert.errors import EvaluationError, Interrupted, RobcertError, UsageError
from robcert.files import write_atomically
from robcert.runs import directory, files
from robcert.runs.plan import parse_plan
from robcert.runs.record import LegSpec, RunRecord, RunSpec
from robcert.runs.reporter import Silent
from robcert.runs.spec import data_record, digest, model_specs, run_name, threat_record
from robcert.search.stage import Stage
from robcert.types import Dataset, LoadedModel, Threat

PLAN = "pgd:10,cw:20"
STEADY: dict[str, Any] = {"batch_size": 8, "search_precision": "float32", "cpu_threads": 1}  # nothing by the clock


def attack(model: LoadedModel, data: Dataset, directory: Path, **changes: Any) -> RunRecord:
    given: dict[str, Any] = {"threat": Threat("l2", (0.5,)), "plan": PLAN, "run": directory} | STEADY | changes
    return robcert.attack(model, data, **given)


def timeless(content: Any) -> Any:
    """Without anything that was measured by a clock."""
    if isinstance(content, dict):
        return {key: timeless(value) for key, value in content.items() if key != "seconds"}
    return [timeless(value) for value in content] if isinstance(content, list) else content


def verdicts(record: RunRecord) -> Any:
    return {key: value for key, value in timeless(json.loads(record.to_json())).items() if key != "run"}


@pytest.fixture(scope="session")
def whole(model: LoadedModel, data: Dataset) -> Any:
    return verdicts(robcert.attack(model, data, Threat("l2", (0.5,)), PLAN, **STEADY))


class Stops(Silent):
    """Raises at the given synchronisation."""

    def __init__(self, at: int, error: BaseException) -> None:
        self.left, self.error = at, error

    def synchronised(self, stage: Stage) -> None:
        self.left -= 1
        if self.left == 0:
            raise self.error


@pytest.mark.parametrize("at", [1, 2, 5, 9, 14, 20])
def test_a_run_that_died_continues_to_the_same_record(
    model: LoadedModel, data: Dataset, tmp_path: Path, whole: Any, at: int
) -> None:
    """Killed at a synchronisation, with a checkpoint at each; again with checkpoints so rare that there is none."""
    for checkpoint in (0.0, 1e9):
        directory = tmp_path / str(checkpoint)
        with pytest.raises(RuntimeError, match="power"):
            attack(
                model, data, directory,
                reporter=Stops(at, RuntimeError("power cut")), checkpoint_seconds=checkpoint,
            )  # fmt: skip
        assert verdicts(attack(model, data, directory)) == whole


def test_the_same_command_again_runs_nothing(
    model: LoadedModel, data: Dataset, tmp_path: Path, whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    attack(model, data, tmp_path / "r")
    monkeypatch.setattr(Stage, "run", lambda *_: pytest.fail("it attacked again"))
    assert verdicts(attack(model, data, tmp_path / "r")) == whole
    names = {path.name for path in (tmp_path / "r").iterdir()}
    assert not [name for name in names if name.startswith("state-") or name.endswith(".tmp")]
    assert {"run.json", "record.json", "run.sqlite"} <= names


def test_company_on_the_device_is_no_part_of_the_spec(
    model: LoadedModel, data: Dataset, tmp_path: Path, whole: Any
) -> None:
    """Another batch size continues the same run."""
    with pytest.raises(RuntimeError, match="power"):
        attack(model, data, tmp_path / "r", reporter=Stops(6, RuntimeError("power cut")), checkpoint_seconds=0)
    record = attack(model, data, tmp_path / "r", batch_size=128)
    ours = [image["status"] for image in verdicts(record)["models"][0]["images"]]
    assert ours == [image["status"] for image in whole["models"][0]["images"]]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"threat": Threat("l2", (0.25,))}, "threat.eps: there [0.5], here [0.25]"),
        ({"threat": Threat("linf", (0.5,))}, "threat.norm: there l2, here linf"),
        ({"plan": "pgd:10,cw:30"}, "plan.2.iterations: there 20, here 30"),
        ({"seed": 4}, "seed: there 0, here 4"),
        ({"goal": "minimize"}, "goal: there decide, here minimize"),
        ({"options": {"cw": {"search_steps": 3}}}, "options.cw.search_steps: there not given, here 3"),
    ],
)
def test_another_spec_is_refused_with_the_difference(
    model: LoadedModel, data: Dataset, tmp_path: Path, changes: dict[str, Any], line: str
) -> None:
    attack(model, data, tmp_path / "r", plan=PLAN)
    before = {path.name: path.read_bytes() for path in (tmp_path / "r").iterdir() if path.suffix != ".lock"}
    with pytest.raises(UsageError, match="another specification") as caught:
        attack(model, data, tmp_path / "r", **changes)
    assert line in str(caught.value)
    assert "--run" in caught.value.do
    after = {path.name: path.read_bytes() for path in (tmp_path / "r").iterdir() if path.suffix != ".lock"}
    assert before == after, "nothing was touched"


def test_other_images_or_another_network_are_another_spec(model: LoadedModel, data: Dataset, tmp_path: Path) -> None:
    attack(model, data, tmp_path / "r")
    with pytest.raises(UsageError, match=r"data\.sha256"):
        attack(model, dataclasses.replace(data, x=data.x * 0.5), tmp_path / "r")
    other = dataclasses.replace(model, source=dataclasses.replace(model.source, sha256="2" * 64))
    with pytest.raises(UsageError, match=r"models\.1\.sha256"):
        attack(other, data, tmp_path / "r")


def test_the_hash_names_the_run(model: LoadedModel, data: Dataset) -> None:
    def spec(**changes: Any) -> Any:
        given = {"threat": Threat("l2", (0.5,)), "seed": 0, "flat": 0.01, "plan": PLAN} | changes
        return RunSpec(
            threat=threat_record(given.pop("threat")),
            data=data_record(data),
            models=model_specs([model]),
            plan=[LegSpec(**vars(leg)) for leg in parse_plan(given.pop("plan"))],
            goal="decide",
            **given,
        )

    assert digest(spec()) == digest(spec())
    assert digest(spec()) == digest(type(spec()).model_validate_json(spec().model_dump_json()))
    others = [spec(seed=1), spec(flat=0.02), spec(plan="cw:20"), spec(threat=Threat("l2", (0.5, 1.0)))]
    others += [spec(search_precision="float32"), spec(criterion="another")]
    assert len({digest(one) for one in [spec(), *others]}) == 7
    assert run_name(spec()).startswith("attack-prototypes-l2-0.5-")
    assert run_name(spec()).endswith(digest(spec())[:8])


def test_a_directory_of_something_else_is_left_alone(model: LoadedModel, data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("chapter one")
    with pytest.raises(UsageError, match=r"holds no run \(thesis.tex"):
        attack(model, data, tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "chapter one"
    (tmp_path / "file").write_text("")
    with pytest.raises(RobcertError, match=r"cannot write|holds no run"):
        attack(model, data, tmp_path / "file")


def test_a_damaged_run_json_is_explained(model: LoadedModel, data: Dataset, tmp_path: Path) -> None:
    for text in ("", "{", "[]", '{"schema": "robcert.spec/1"}', "null"):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(UsageError, match="cannot be read") as caught:
            attack(model, data, tmp_path)
        assert "--run" in caught.value.do


def test_one_process_at_a_time(model: LoadedModel, data: Dataset, tmp_path: Path) -> None:
    code = (
        "import sys, filelock\n"
        f"with filelock.FileLock({str(tmp_path / 'r' / '.lock')!r}):\n"
        "    print('locked', flush=True); sys.stdin.read()\n"
    )
    attack(model, data, tmp_path / "r")
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(EvaluationError, match="another process"):
            attack(model, data, tmp_path / "r")
        other.communicate(b"")
    attack(model, data, tmp_path / "r")


def test_ctrl_c_saves_and_continues(model: LoadedModel, data: Dataset, tmp_path: Path, whole: Any) -> None:
    class Presses(Silent):
        count = 0

        def synchronised(self, stage: Stage) -> None:
            self.count += 1
            if self.count == 7:
                import signal

                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match="all work is saved") as caught:
        attack(model, data, tmp_path / "r", reporter=Presses(), checkpoint_seconds=1e9)
    assert caught.value.exit_code == 130
    assert "same command" in caught.value.do
    assert list((tmp_path / "r").glob("state-0-*.safetensors"))
    assert verdicts(attack(model, data, tmp_path / "r")) == whole


def test_a_damaged_checkpoint_is_an_error_not_a_verdict(model: LoadedModel, data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="power"):
        attack(model, data, tmp_path / "r", reporter=Stops(6, RuntimeError("power cut")), checkpoint_seconds=0)
    (state,) = (tmp_path / "r").glob("state-0-*.safetensors")
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(EvaluationError, match="missing or damaged"):
        attack(model, data, tmp_path / "r")
    state.unlink()
    with pytest.raises(EvaluationError, match="missing or damaged"):
        attack(model, data, tmp_path / "r")


def test_a_damaged_database_is_said(model: LoadedModel, data: Dataset, tmp_path: Path) -> None:
    attack(model, data, tmp_path / "r")
    path = tmp_path / "r" / "run.sqlite"
    size = path.stat().st_size
    whole = path.read_bytes()
    for content in (b"no database at all", whole[: size // 2], whole[:4096] + b"\xff" * (size - 4096)):
        path.write_bytes(content)
        with pytest.raises(EvaluationError, match="is damaged") as caught:
            attack(model, data, tmp_path / "r")
        assert "begins anew" in caught.value.do


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_without_permission(model: LoadedModel, data: Dataset, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(EvaluationError, match="cannot write to the run directory") as caught:
        attack(model, data, tmp_path / "r")
    assert "--run" in caught.value.do


def test_a_directory_that_cannot_be_made(model: LoadedModel, data: Dataset) -> None:
    for impossible in (Path("/proc/robcert/run"), Path("/dev/null/run")):
        with pytest.raises(EvaluationError, match="cannot write to the run directory") as caught:
            attack(model, data, impossible)
        assert "--run" in caught.value.do


def test_files_are_whole_or_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, lambda p: p.write_text("first"))

    def half(p: Path) -> None:
        p.write_text("sec")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_atomically(path, half)
    assert path.read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("at", [1, 2, 4, 7])
def test_a_full_disk_says_so_and_loses_nothing(
    model: LoadedModel, data: Dataset, tmp_path: Path, whole: Any, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """The n-th file cannot be written; when there is room again, the same command ends as if nothing had been."""
    count = 0

    def full(path: Path, write: Any) -> None:
        nonlocal count
        count += 1
        if count >= at:
            path.with_name(f".{path.name}.tmp").write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        write_atomically(path, write)

    with monkeypatch.context() as patched:
        patched.setattr(directory, "write_atomically", full)
        with pytest.raises(EvaluationError, match="the disk is full") as caught:
            attack(model, data, tmp_path / "r", checkpoint_seconds=0)
        assert caught.value.exit_code == 3
        assert "same command again" in caught.value.do
    assert verdicts(attack(model, data, tmp_path / "r")) == whole


def test_a_database_that_is_full_says_so(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="the disk is full"), files.explained(tmp_path):
        raise sqlite3.OperationalError("database or disk is full")
    with pytest.raises(KeyError), files.explained(tmp_path):
        raise KeyError("a defect is not the disk")


def _limited(size: int) -> None:
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.drawn(3)
@pytest.mark.parametrize("size", [2_000, 40_000, 200_000])
def test_files_that_may_not_grow(tmp_path: Path, size: int) -> None:
    """The operating system itself refuses (EFBIG at a file size limit): a message and exit code 3, then it resumes."""
    command = [sys.executable, "-m", "robcert.cli.main", "attack", "digits-plain", "--eps", "0.3", "--plan", "pgd:5,10",
               "--n", "60", "--threads", "1", "--checkpoint", "0", "--run", str(tmp_path / "r")]  # fmt: skip
    failed = subprocess.run(command, capture_output=True, text=True, preexec_fn=lambda: _limited(size), check=False)
    assert failed.returncode == 3, failed.stderr
    assert "Traceback" not in failed.stderr
    assert "robcert: error:" in failed.stderr
    assert str(tmp_path / "r") in failed.stderr
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
