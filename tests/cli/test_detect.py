"""`robcert detect`: the table, a stored threshold, screening of files, and bad input."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from PIL import Image

from robcert.data import load_dataset
from robcert.network import load_model
from robcert.sensitivity.detector import Detector

from .conftest import Answer, Call

SCHEMAS = Path(__file__).resolve().parents[2] / "docs" / "schemas"

QUICK = ("--plan", "pgd:5,cw:10,evasive-cw:20", "-o", "pgd.search_steps=6", "--attacked", "8")


def refused(answer: Answer, code: int, *texts: str) -> None:
    assert (answer.code, answer.out) == (code, ""), answer.err
    for text in texts:
        assert text in answer.err
    assert len(answer.err.strip().splitlines()) >= 2, "it says what to do"


def test_the_table_and_a_stored_threshold(call: Call, tmp_path: Path) -> None:
    answer = call("detect", "digits-plain", *QUICK, "--store", "d.json", "--plot", "d.svg", "--format", "json")
    assert answer.code == 0, answer.err
    record = json.loads(answer.out)
    jsonschema.validate(record, json.loads((SCHEMAS / "detect-1.json").read_text()))
    clean = record["clean"]
    low, high = clean["predicted"]
    assert low <= clean["rejected"] <= high, "a calibrated threshold on images of the same kind"
    assert clean["interval"][0] <= clean["rejected"] / clean["n"] <= clean["interval"][1]
    rows = {row["attack"]: row for row in record["attacks"]}
    assert list(rows) == ["pgd:5", "cw:10", "evasive-cw:20"]
    assert record["adaptive"]
    assert [row["adaptive"] for row in rows.values()] == [False, False, True]
    cw, evasive = rows["cw:10"], rows["evasive-cw:20"]
    assert cw["detected"] == cw["found"] == 8, "cw ends on the boundary, where the softmax is steep"
    assert evasive["tried"] == evasive["attacked"] == 8
    assert evasive["detected"] == 8 - evasive["found"] < 8
    assert evasive["median_distance"] > cw["median_distance"]
    assert (evasive["area"], evasive["roc"]) == (None, None), "its examples were made for the one threshold"
    for row in (rows["pgd:5"], cw):
        false, true = row["roc"]
        assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
        area = sum((b - a) * (c + d) / 2 for a, b, c, d in zip(false, false[1:], true, true[1:], strict=False))
        assert area == pytest.approx(row["area"])
    assert "<svg" in (tmp_path / "d.svg").read_text()

    again = call("detect", "digits-plain", "--plan", "pgd:5", "--attacked", "4", "--threshold-from", "d.json")
    assert again.code == 0, again.err
    assert f"> {record['threshold']['value']:.4g}" in again.out
    assert f"{clean['rejected']} of {clean['n']}" in again.out, "on the same images: none of the calibration"
    assert "know nothing of the detector" in again.out, "no adaptive attack: the table says so"
    refused(
        call("detect", "digits-plain", "--threshold-from", "d.json", "--statistic", "row"),
        2,
        "of 'probability', not of 'row'",
    )
    refused(call("detect", "digits-at", "--threshold-from", "d.json"), 3, "another file of digits-plain")


def pictures(folder: Path, count: int) -> None:
    """Test digits as 8-bit files; the odd ones half way between two classes."""
    data = load_dataset("digits")
    for k in range(count):
        other = int((data.y != data.y[k]).nonzero()[k])
        x = data.x[k, 0] if k % 2 == 0 else (data.x[k, 0] + data.x[other, 0]) / 2
        Image.fromarray(np.uint8(np.round(255 * x.numpy()))).save(folder / f"{k:02d}.png")


def test_screening(call: Call, tmp_path: Path) -> None:
    folder = tmp_path / "incoming"
    folder.mkdir()
    pictures(folder, 12)
    answer = call("detect", "digits-plain", "--images", "incoming", "--store", "d.json", "--format", "json")
    record = json.loads(answer.out)
    jsonschema.validate(record, json.loads((SCHEMAS / "screen-1.json").read_text()))
    model = load_model("digits-plain")
    detector = Detector(model.module, "probability", record["threshold"]["value"])
    assert len(record["files"]) == 12
    for row in record["files"]:
        pixels = torch.from_numpy(np.array(Image.open(tmp_path / row["file"]))).float()[None, None] / 255
        assert row["answer"] == str(int(model.module(pixels).argmax()))
        assert row["value"] == pytest.approx(float(detector.values(pixels)), rel=1e-4)
        assert row["rejected"] == (row["value"] > detector.threshold)
    assert record["rejected"] == sum(row["rejected"] for row in record["files"]) > 0
    assert answer.code == 1, "an image was rejected"
    for row in record["files"]:
        if row["rejected"]:
            (tmp_path / row["file"]).unlink()
    answer = call("detect", "digits-plain", "--images", "incoming", "--threshold-from", "d.json")
    assert answer.code == 0, "none of the rest is"
    assert "0 of" in answer.out


def test_what_cannot_be_screened(call: Call, tmp_path: Path) -> None:
    screen = ("detect", "digits-plain", "--images")
    refused(call(*screen, "nowhere"), 2, "no folder nowhere")
    (tmp_path / "in").mkdir()
    refused(call(*screen, "in"), 2, "holds no image")
    Image.new("L", (9, 8)).save(tmp_path / "in" / "wide.png")
    refused(call(*screen, "in"), 3, "wide.png is 9x8, but the model takes 8x8")
    (tmp_path / "in" / "wide.png").write_bytes(b"no picture")
    refused(call(*screen, "in"), 3, "wide.png is no image")


def test_bad_input(call: Call, tmp_path: Path) -> None:
    digits = load_dataset("digits", n=60)
    np.savez(tmp_path / "one.npz", x=digits.x.numpy(), y=digits.y.numpy())
    one = ("detect", "digits-plain", "--data", "npz:one.npz")
    refused(call(*one, "--calibrate-on", "train", "--calibration", "30"), 2, "no training part")
    refused(call(*one, "--calibration", "60"), 2, "none is left to test on")
    refused(call("detect", "digits-plain", "--calibration", "0"), 2, "no clean calibration images")
    refused(call("detect", "digits-plain", "--n", "0"), 2, "no clean test images", "--n 250")
    refused(call("detect", "digits-plain", "--calibration", "10"), 2, "10 clean calibration images", "At least 19")
    refused(call("detect", "digits-plain", "--threshold-from", "no.json"), 2, "no threshold", "--store")
    refused(call("detect", "digits-plain", "--statistic", "spectrum"), 2, "unknown statistic", "'spectral'")
    refused(call("detect", "digits-plain", "--rate", "1.5"), 2, "false-positive rate")
    refused(call("detect", "digits-plain", "--plan", "cv:10"), 2, "unknown attack")
    refused(call("detect", "digits-plain", "--calibrate-on", "trian"), 2, "unknown split")
    done = call("detect", "digits-plain", "--calibrate-on", "train", "--plan", "pgd:2", "--attacked", "2", "--n", "50")
    assert done.code == 0, done.err
    assert "digits train" in done.out


@pytest.mark.parametrize("blank", [1, 30])
def test_images_without_a_gradient(call: Call, tmp_path: Path, blank: int) -> None:
    """The statistic of a blank image is NaN: one is rejected, with many there is no threshold."""
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class Pooled(nn.Module):\n"
        "    def __init__(self):\n        super().__init__(); self.conv = nn.Conv2d(1, 4, 3, bias=False); "
        "self.head = nn.Linear(36, 10)\n"
        "    def forward(self, x):\n        squares = nn.functional.avg_pool2d(self.conv(x).square(), 2)\n"
        "        return self.head(squares.sqrt().flatten(1))\n"
    )
    torch.manual_seed(0)
    state = {"conv.weight": torch.randn(4, 1, 3, 3), "head.weight": torch.randn(10, 36), "head.bias": torch.zeros(10)}
    torch.save(state, tmp_path / "net.pt")
    x = torch.rand(60, 1, 8, 8)
    x[:blank] = 0
    np.savez(tmp_path / "d.npz", x=x.numpy(), y=np.arange(60) % 10)
    options = ("--arch", "mine:Pooled", "--data", "npz:d.npz", "--calibration", "30", "--plan", "pgd:3")
    answer = call("detect", "net.pt", *options, "--attacked", "3")
    if blank == 1:
        assert answer.code == 0, answer.err
    else:
        refused(answer, 3, "of 30 clean calibration images is NaN or infinite", "--statistic")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_table_6_of_paper_e(call: Call, seed: int) -> None:
    """The command as the documentation has it: what paper E finds on CIFAR-10 holds on the digits."""
    answer = call("detect", "digits-plain", "--seed", seed, "--format", "json")
    assert answer.code == 0, answer.err
    record = json.loads(answer.out)
    low, high = record["clean"]["predicted"]
    assert low <= record["clean"]["rejected"] <= high
    rows = {row["attack"].partition(":")[0]: row for row in record["attacks"]}
    assert list(rows) == ["pgd", "boundary", "cw", "evasive-cw"]
    cw, evasive = rows["cw"], rows["evasive-cw"]
    assert evasive["detected"] / evasive["tried"] < cw["detected"] / cw["tried"]
    assert evasive["median_distance"] > cw["median_distance"]
