"""The `shortlist` command: one file per subcommand; here they are put together and errors become exit codes.

0: fine; 1: the work failed, or the reader of the output is gone; 2: wrong usage; 130: interrupted. A user's
mistake is one line on standard error; a traceback is a defect of ours.
"""

import errno
import io
import os
import sys
from collections.abc import Sequence

import typer

from shortlist.cli import bench, chat, convert, fit, inspect, pull, report, run, serve, train, tune
from shortlist.cli.eval import evaluate
from shortlist.errors import ShortlistError, UsageError, one_line

FAILED, WRONG_USAGE = 1, 2
INTERRUPTED = 130  # 128 + SIGINT, as shells report it

# Errors of standard output; files that commands write have their own errors.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# Without rich's markup, --help starts in half the time.
app = typer.Typer(
    help="Run language models that read only the weights the next token needs.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(epilog="Example: shortlist pull gemma-3-270m")(pull.pull)
app.command(epilog="Example: shortlist fit smollm2-135m")(fit.fit)
app.command(epilog='Example: shortlist run smollm2-135m "The sea is" -n 50 --stats')(run.run)
app.command(epilog="Example: shortlist chat smollm2-135m --temperature 0.7")(chat.chat)
app.command(epilog="Example: shortlist serve smollm2-135m --port 8000")(serve.serve)
app.command(epilog="Example: shortlist bench smollm2-135m --peer llama.cpp")(bench.bench)
app.command("eval", epilog="Example: shortlist eval smollm2-135m --text book.txt --tokens 4096 --json")(
    evaluate
)
app.command(epilog="Example: shortlist inspect gemma-3-270m")(inspect.inspect)
app.command(epilog="Example: shortlist report smollm2-135m --text book.txt -o report.html")(report.report)
app.command(epilog="Example: shortlist tune smollm2-135m --text book.txt --max-perplexity 0.5% -o tuned")(
    tune.tune
)
app.command(
    epilog="Example: shortlist convert smollm2-135m --method read-me --text book.txt --heal-minutes 5 -o moe"
)(convert.convert)
app.command(epilog="Example: shortlist train examples/train.toml -o runs/first")(train.train)


@app.callback(invoke_without_command=True)
def _shortlist(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if version:
        from importlib.metadata import version as version_of

        print(version_of("shortlist"))
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise typer.Exit(WRONG_USAGE)


def main() -> None:
    """Entry point of the `shortlist` command."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # no failure where a terminal lacks a character
    raise SystemExit(run_command(sys.argv[1:]))


def run_command(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    try:
        _check_text(arguments)
        code = app(arguments, prog_name="shortlist", standalone_mode=False)
        sys.stdout.flush()  # here, because a closed pipe could not be caught at exit
        return code or 0
    except ShortlistError as error:
        return _fail(error, error.exit_code)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "shortlist"
        return _fail(f"{error.format_message()} (see {command} --help)", error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        _drop_output()
        return FAILED
    except OSError as error:
        if error.errno not in FULL:
            raise
        _drop_output()
        reason = f"the output cannot be written: {error.strerror}"
        return _fail(f"{reason}: free some space, or write it elsewhere", FAILED)


def _check_text(arguments: Sequence[str]) -> None:
    for number, argument in enumerate(arguments, 1):
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise UsageError(f"argument {number} is not valid UTF-8: {argument!a}") from None


def _drop_output() -> None:
    """Discard the last output, which the interpreter would flush at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: object, code: int) -> int:
    print(f"shortlist: {one_line(message)}", file=sys.stderr)
    return code
