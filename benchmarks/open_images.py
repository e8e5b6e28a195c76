"""What is certified, broken, open and wrong when each image of a network has a limit of CPU seconds.

    export ROBCERT_FOREIGN=... ROBCERT_DATA=...
    python benchmarks/open_images.py provable_mnist --eps 0.1 -n 500 --seconds 60 --record provable.jsonl
    python benchmarks/open_images.py cnn_a_adv --eps 0.3 -n 100 --seconds 60 --record cnn_a_adv.jsonl
    python benchmarks/open_images.py mlp_6x100 --eps 0.026 -n 100 --seconds 60 --record mlp_6x100.jsonl
    python benchmarks/open_images.py digits-at --eps 0.05 -n 100 --seconds 60

Each image is one `robcert attack --norm linf --certify best --time-per-image SECONDS` through the Python API: the
ladder of certificates, and the attack on what it leaves. The networks are those of executed.py on MNIST (the first n
test images in the order of the file) and those of the zoo (the images of `robcert attack --n n`). A line of JSON an
image goes to the record, and a second call goes on behind it. CPU seconds are those of the whole attack on an image.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import executed

import robcert
from robcert.certificates.trials import answers
from robcert.data import load_dataset
from robcert.types import Dataset, LoadedModel, Threat

STATUSES = ("certified", "broken", "open", "wrong")


def loaded(name: str, n: int) -> tuple[LoadedModel, Dataset]:
    """The network, and its images."""
    if name not in executed.NETWORKS:
        model = robcert.load_model(name)
        return model, load_dataset(name.split("-")[0], n=n)
    model, _, _ = executed.load(name, 1)
    if executed.NETWORKS[name].data != "mnist":
        sys.exit(f"{name}: only networks of MNIST have images in an order of their own")
    return model, part(load_dataset("mnist"), slice(n))


def part(data: Dataset, rows: slice) -> Dataset:
    """Some images, in order."""
    return dataclasses.replace(data, x=data.x[rows], y=data.y[rows], index=data.index[rows])


def decided(model: LoadedModel, data: Dataset, eps: float, seconds: float) -> dict[str, Any]:
    """The status of one image, and what it took."""
    began = time.process_time()
    status = "wrong"
    if int(answers(model, data.x)) == int(data.y):
        threat = Threat("linf", (eps,))
        record = robcert.attack(model, data, threat, certify="best", time_per_image=seconds, cpu_threads=1)
        status = str(record.models[0].images[0].status)
    return {"image": int(data.index), "status": status, "seconds": round(time.process_time() - began, 2)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", help=f"{', '.join(executed.NETWORKS)}, or a name of the zoo")
    parser.add_argument("--eps", type=float, required=True)
    parser.add_argument("-n", type=int, default=100, help="images (default 100)")
    parser.add_argument("--seconds", type=float, default=60.0, help="CPU seconds for each certificate (default 60)")
    parser.add_argument("--record", type=Path, help="a file of lines of JSON, behind which a second call goes on")
    options = parser.parse_args()
    model, data = loaded(options.network, options.n)
    asked = {"network": options.network, "eps": options.eps, "limit": options.seconds}
    done = earlier(options.record, asked)
    for k in range(len(data.y)):
        one = part(data, slice(k, k + 1))
        if int(one.index) in done:
            continue
        found = asked | decided(model, one, options.eps, options.seconds)
        done[int(one.index)] = found
        if options.record is not None:
            with options.record.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found) + "\n")
        print(
            f"{len(done)} of {len(data.y)}: image {found['image']} {found['status']}, {found['seconds']} s", flush=True
        )
    counts = Counter(one["status"] for one in done.values())
    total = sum(one["seconds"] for one in done.values())
    said = ", ".join(f"{counts[status]} {status}" for status in STATUSES)
    print(f"{options.network} at {options.eps:g}, {options.seconds:g} s each: {said} of {len(done)}; {total:.0f} CPU s")
    return 0


def earlier(record: Path | None, asked: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """The images of a record, by position, where the same was asked."""
    if record is None or not record.exists():
        return {}
    lines = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]
    if any({name: line[name] for name in asked} != asked for line in lines):
        sys.exit(f"{record}: something else was asked there; give another --record")
    return {line["image"]: line for line in lines}


if __name__ == "__main__":
    sys.exit(main())
