"""Start of the command line and the one place where an error becomes one line and an exit code.

Nothing here, nor at the top of a verb's file, imports Keras: `qingformer --help` answers in a blink.
"""

import errno
import os
import sys
from typing import Annotated

import typer

from qingformer.cli import inference, model_files, suggest_lr, train
from qingformer.cli.argument_checks import check_arguments
from qingformer.cli.console import as_options
from qingformer.cli.process import exit_code, import_keras_quietly, last_word, leave_with, use_utf8
from qingformer.errors import QingFormerError, one_line
from qingformer.version import __version__

EXIT_ERROR = 2
# 128 + SIGPIPE, as the shell reports other programs that lost their reader.
EXIT_PIPE_CLOSED = 141

app = typer.Typer(
    name="qingformer",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Try it: [bold]qingformer train --help[/bold] shows a first training run, line by line.",
)
for name, command, epilog in (
    ("train", train.command, train.EPILOG),
    ("evaluate", inference.evaluate_command, inference.EVALUATE_EPILOG),
    ("predict", inference.predict_command, inference.PREDICT_EPILOG),
    ("convert", model_files.convert_command, model_files.CONVERT_EPILOG),
    ("info", model_files.info_command, model_files.INFO_EPILOG),
    ("suggest-lr", suggest_lr.command, suggest_lr.EPILOG),
):
    app.command(name, epilog=epilog)(command)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"qingformer {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it and stop.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere.")] = False,
) -> None:
    """Train, evaluate and use models of text, and look into and convert pretrained transformers.

    The tasks: classification, named entities, word segmentation, relations, reading comprehension, multiple choice.

    The computation runs on JAX; set KERAS_BACKEND=torch or tensorflow to choose another library that is installed.
    """


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code: 0 done, 2 wrong input, 130 stopped by Ctrl-C, 143 by SIGTERM.

    Whatever is wrong with the input is one line on standard error that starts with `error:`. With `--debug` the
    exception itself is let through.
    """
    # First of all, as everything below may print.
    use_utf8()
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow greets on standard error
    try:
        return _invoke(arguments)
    except BrokenPipeError:  # the reader of our output has seen enough, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE_CLOSED
    except KeyboardInterrupt as stop:
        last_word()
        return _say(str(stop) or "stopped", exit_code(stop))
    except QingFormerError as problem:
        if debug:
            raise
        return _say(f"error: {problem}{_remedy(problem.__cause__ or problem.__context__)}", EXIT_ERROR)
    except OSError as problem:
        if debug:
            raise
        return _say(f"error: {_describe(problem)}", EXIT_ERROR)
    except ModuleNotFoundError as problem:
        if debug:
            raise
        return _say(
            f"error: the Python package {problem.name!r} is not installed: pip install {problem.name}", EXIT_ERROR
        )


def _invoke(arguments: list[str]) -> int:
    try:
        command = typer.main.get_command(app)
        check_arguments(command, arguments)
        with command.make_context("qingformer", arguments) as context:
            if not {"--help", "-h"} & set(arguments):
                import_keras_quietly()
            command.invoke(context)
    except typer.Exit as leave:
        return int(leave.exit_code)
    except Exception as problem:
        if not hasattr(problem, "format_message"):  # typer's own complaints about the command line have it
            raise
        return _say(f"error: {problem.format_message()} Try: qingformer --help", EXIT_ERROR)
    return 0


def _describe(problem: OSError) -> str:
    where = f"{problem.filename}: " if problem.filename else ""
    return where + (problem.strerror or str(problem)) + _remedy(problem)


def _remedy(problem: BaseException | None) -> str:
    if isinstance(problem, OSError) and problem.errno in _NO_ROOM:
        return "; nothing half-written was left behind: free some space and run the command again"
    return ""


_NO_ROOM = {getattr(errno, name, None) for name in ("ENOSPC", "EDQUOT", "EFBIG")}


def _say(line: str, code: int) -> int:
    sys.stdout.flush()
    print(as_options(one_line(line).strip()), file=sys.stderr)
    return code


def main() -> None:
    """Entry point of the `qingformer` program."""
    leave_with(lambda: run(sys.argv[1:]))
