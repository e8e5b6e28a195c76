"""`robcert verify`: properties of networks, answered with a counterexample or a proof."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robcert.cli import completion
from robcert.cli import options as opt
from robcert.cli.flags import ModelFlags

_RUN = "Run and output"


def verify(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL", help="Names or files, see `robcert models`.", autocompletion=completion.models),
    ] = None,
    prop: Annotated[
        Path | None, typer.Argument(metavar="PROPERTY", help="A property (VNN-LIB 1.0), asked of every model.")
    ] = None,
    instances: Annotated[
        Path | None,
        typer.Option(help="Instead: a file with a line onnx,vnnlib,seconds for each instance, as VNN-COMP has it."),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            help="Wall-clock seconds for each answer, once the network is loaded.",
            show_default="60, or what --instances says",
        ),
    ] = None,
    plan: Annotated[
        str | None,
        typer.Option(
            help="Attacks of the search, in l-infinity: attack:iterations[xrestarts] with commas.",
            show_default="pgd:20x8,pgd:100x32,apgd:100x16",
            autocompletion=completion.plans,
        ),
    ] = None,
    arithmetic: Annotated[
        str,
        typer.Option(
            help="executed: unsat holds for the float32 network, rounding included. real: for the network in real "
            "arithmetic. sat is always confirmed by executing the file."
        ),
    ] = "executed",
    seed: Annotated[int, typer.Option(min=0, help="Seed of random starts.")] = 0,
    model_flags: ModelFlags = ModelFlags(),
    results: Annotated[
        Path | None,
        typer.Option(
            help="A table for VNN-COMP's scripts, a line after each answer: category,onnx,vnnlib,0,result,seconds.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    counterexamples: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="A folder for the counterexamples, a file for each sat.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    run: opt.Run = None,
    threads: opt.TaskThreads = None,
    output_format: Annotated[
        str, typer.Option("--format", help="console, json, markdown, html or vnncomp.", rich_help_panel=_RUN)
    ] = "console",
    output: opt.Output = None,
) -> None:
    """Answer properties of networks: sat with a counterexample, unsat with a proof, unknown, or timeout.

    A property asks for an input in a box whose outputs fulfil linear constraints. Inputs and outputs are those of the
    file. Attacks search for a counterexample, which counts once onnxruntime has confirmed it on the outputs of the
    file; Lipschitz constants, intervals, linear bounds (CROWN, alpha-CROWN) and branch and bound look for a proof.

    The exit code is 0 for every answer, 2 for a property that cannot be read (its line is named).

    Examples:

    `robcert verify net.onnx prop_0.vnnlib --timeout 60`

    `robcert verify net.onnx prop_0.vnnlib --format vnncomp --output result.txt`

    `robcert verify --instances instances.csv --results results.csv --arithmetic real --run runs/mnist`
    """
    from robcert.cli.inputs import facts
    from robcert.cli.parse import choice, write
    from robcert.cli.verified import ask, keep
    from robcert.reports import renderer_of
    from robcert.reports.verify import answering
    from robcert.runs.records.verify import VerifyRecord
    from robcert.runs.verify import legs_of, verify_instances
    from robcert.verification.answer import ARITHMETICS

    render = renderer_of(VerifyRecord, output_format)
    chosen = choice("arithmetic", arithmetic, ARITHMETICS)
    if plan is not None:
        legs_of(plan)
    facts(model_flags)  # refuses a text before anything is loaded
    asked = ask(models or [], prop, instances, timeout, model_flags)
    with keep(asked, results, counterexamples) as kept, answering(len(asked)) as (answered, said):
        record = verify_instances(
            [one.instance for one in asked],
            plan=plan,
            arithmetic=chosen,
            seed=seed,
            run=run,
            cpu_threads=threads,
            answered=lambda answer: (kept(answer), answered(answer))[1],
            said=said,
        )
    write(render(record), output)
