"""`robcert export`: a model in another format, checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robcert.cli.options import Arch, Classes, InputShape, Mean, Std, WeightsKey


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A name of the zoo or a file, see `robcert models`.")],
    target: Annotated[Path, typer.Argument(metavar="FILE", help="Ends in .onnx, .pt2 or .safetensors.")],
    arch: Arch = None,
    weights_key: WeightsKey = None,
    input_shape: InputShape = None,
    classes: Classes = None,
    mean: Mean = None,
    std: Std = None,
    output_format: Annotated[str, typer.Option("--format", help="console or json.")] = "console",
    output: Annotated[Path | None, typer.Option(help="A file instead of stdout.")] = None,
) -> None:
    """Write a model as ONNX, as a torch.export archive or as safetensors, and check it.

    .onnx and .pt2 hold the network that robcert executes, with its normalisation, for any number of images;
    .safetensors hold the weights and the card of a named architecture. What was written is loaded again: its logits
    must be those of the model, and those of an ONNX file also what onnxruntime computes.

    Example: `robcert export digits-l2nnn digits-l2nnn.onnx`
    """
    import json

    from robcert.cli.inputs import Foreign
    from robcert.cli.notes import say
    from robcert.cli.parse import write
    from robcert.errors import UsageError, did_you_mean
    from robcert.network import export_model

    if output_format not in ("console", "json"):
        raise UsageError(f"unknown format {output_format!r}", did_you_mean(output_format, ["console", "json"]))
    given = Foreign.parse(arch, weights_key, input_shape, classes, mean, std)
    done = export_model(
        model,
        target,
        arch=given.arch,
        weights_key=given.weights_key,
        input_shape=given.input_shape,
        num_classes=given.classes,
        mean=given.mean,
        std=given.std,
    )
    say(done.notes)
    text = (
        f"{done.path}: {done.size:,} bytes, sha256 {done.sha256[:16]}...\n"
        f"Loaded again: logits differ by at most {done.difference:.1e} of the largest.\nRuns with {done.runs}."
    )
    write(json.dumps(done.as_json(), indent=2) if output_format == "json" else text, output)
