"""`robcert export`: a model in another format, checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robcert.cli import completion
from robcert.cli import options as opt
from robcert.cli.flags import ModelFlags


def export(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A name or a file, see `robcert models`.", autocompletion=completion.models
        ),
    ],
    target: Annotated[Path, typer.Argument(metavar="FILE", help="Ends in .onnx, .pt2 or .safetensors.")],
    model_flags: ModelFlags = ModelFlags(device="cpu"),
    output_format: opt.Format = "console",
    output: opt.Output = None,
) -> None:
    """Write a model as ONNX, as a torch.export archive or as safetensors, and check it.

    .onnx and .pt2 hold the network that robcert executes, with its normalisation, for any number of images;
    .safetensors hold the weights and the card of a named architecture. What was written is loaded again: its logits
    must be those of the model, and those of an ONNX file also what onnxruntime computes.

    Example: `robcert export digits-l2nnn digits-l2nnn.onnx`
    """
    from robcert.cli.inputs import choose_device, facts
    from robcert.cli.notes import say
    from robcert.cli.parse import write
    from robcert.network.convert import Exported
    from robcert.network.convert import export as write_model
    from robcert.reports import renderer_of

    render = renderer_of(Exported, output_format)
    done = write_model(model, target, device=choose_device(model_flags.device), **facts(model_flags))
    say(done.notes)
    write(render(done), output)
