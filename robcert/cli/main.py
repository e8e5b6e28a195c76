"""`robcert`: the commands, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import atexit
import errno
import gc
import sys
import warnings
from typing import Annotated, Any

import typer

from robcert import __version__
from robcert.cli.attack import attack
from robcert.cli.certify import certify
from robcert.cli.compare import compare
from robcert.cli.config import defaults
from robcert.cli.data import app as data_app
from robcert.cli.detect import detect
from robcert.cli.effect import Command
from robcert.cli.export import export
from robcert.cli.flags import spread
from robcert.cli.gate import gate
from robcert.cli.jacobian import jacobian
from robcert.cli.leaderboard import leaderboard
from robcert.cli.listings import architectures, attacks, certificates
from robcert.cli.models import models
from robcert.cli.norms import norms
from robcert.cli.notes import forget
from robcert.cli.parse import silence
from robcert.cli.report import report
from robcert.cli.reproduce import reproduce
from robcert.cli.runs import runs
from robcert.cli.show import show
from robcert.cli.train import train
from robcert.cli.verify import verify
from robcert.errors import RobcertError, network_fault, raised_by_network
from robcert.text import plain_lines

app = typer.Typer(
    name="robcert",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "ROBCERT"},
)

_debug = False


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"robcert {__version__}")
        raise typer.Exit


@app.callback()
def main(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something goes wrong.")] = False,
) -> None:
    """Say how robust a trained image classifier really is.

    Attacks say what an adversary finds, with a verdict on whether more iterations would find more. Every
    adversarial example is verified: inside the box, within the budget, misclassified by the float32 network.

    Example: `robcert attack digits-l2nnn --norm l2 --eps 0.5`

    Every option can also be set as ROBCERT_COMMAND_OPTION in the environment (ROBCERT_ATTACK_SEED=1), in
    robcert.toml ([attack] seed = 1) or in pyproject.toml ([tool.robcert.attack]); a flag wins. A flag that has no
    effect is refused (exit code 2); what the environment or a file sets and a command cannot use is left alone.

    Exit codes: 0 done; 1 a verdict (the gate was not passed, or `robcert detect --images` rejected an image);
    2 usage or configuration; 3 the evaluation could not be done; 130 interrupted, after saving.
    """
    global _debug
    _debug = debug
    if not (debug or sys.warnoptions):
        warnings.simplefilter("ignore")  # libraries' own; and TorchScript can warn in any words, robcert's too
    context.default_map = defaults(getattr(context.command, "commands", {}))


for command in (
    attack,
    certify,
    verify,
    gate,
    report,
    norms,
    jacobian,
    detect,
    compare,
    show,
    runs,
    leaderboard,
    models,
    architectures,
    attacks,
    certificates,
    export,
    train,
    reproduce,
):
    app.command(cls=Command)(spread(command))
app.add_typer(data_app)


def run(arguments: list[str] | None = None) -> None:
    """The console script: run a command and exit with its code. No traceback reaches a user without --debug."""
    atexit.register(gc.freeze)  # the last collection would look through all of torch, which takes most of a second
    sys.exit(_run(arguments))


def _run(arguments: list[str] | None) -> int:
    forget()
    try:
        code: Any = app(args=arguments, standalone_mode=False)
    except RobcertError as error:
        if _debug:
            raise
        return _say(error.found, error.do, error.exit_code)
    except KeyboardInterrupt:
        return _say("interrupted", "Run the same command again to go on from the last checkpoint", 130)
    except SystemExit as error:
        # Typer ends with 1, the code of a failed gate, when a reader has left.
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        silence()
        return 0
    except Exception as error:
        # Click's own errors know how to show themselves and which code they mean.
        show_self = getattr(error, "show", None)
        if callable(show_self):
            show_self(file=sys.stderr)
            return int(getattr(error, "exit_code", 2))
        if type(error).__name__ == "Abort":
            return _say("interrupted", "", 130)
        if _debug:
            raise
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            silence()
            return _say(f"cannot write ({error.strerror})", "Free some space and run the same command again", 3)
        if raised_by_network(error):
            fault = network_fault(error)
            return _say(f"the network does not run: {fault.found}", fault.do, fault.exit_code)
        return _say(
            f"{type(error).__name__}: {str(error).strip() or 'no message'}",
            "This is a defect of robcert, not of your input. `robcert --debug ...` shows the traceback to report",
            3,
        )
    return code if isinstance(code, int) else 0


def _say(found: str, do: str, code: int) -> int:
    label = "robcert: " if code == 130 else "robcert: error: "
    # What was found may be a name out of a file: it does not reach the terminal as a control sequence.
    print(plain_lines(f"{label}{found}" + (f"\n{do}" if do else "")), file=sys.stderr)  # noqa: T201 (the one place)
    return code


if __name__ == "__main__":
    run()
