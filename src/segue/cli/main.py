"""Entry points, and how errors leave the program."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from segue.core.errors import SegueError
from segue.core.files import storage_fault

INTERRUPTED = 130
_INTERRUPTED = "interrupted; what was finished is kept, and the same command goes on\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """``segue ...``: runs one command and leaves with its exit code (0; 2 usage, 3 data, 4 environment, 1 a bug)."""
    from segue.cli.commands import app
    from segue.cli.options import require_local

    words = list(sys.argv[1:] if arguments is None else arguments)
    traceback = "--traceback" in words

    def run() -> None:
        require_local(words)
        app([word for word in words if word != "--traceback"], prog_name="segue")

    sys.exit(_guarded(run, traceback))


def run_script(function: Callable[..., None]) -> None:
    """A script as a door onto a function: its parameters become options, errors leave as in :func:`main`."""
    import typer

    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
    app.command()(function)
    traceback = "--traceback" in sys.argv
    sys.exit(_guarded(lambda: app([word for word in sys.argv[1:] if word != "--traceback"]), traceback))


def _guarded(call: Callable[[], object], traceback: bool) -> int:
    from segue.cli.options import end_work

    try:
        try:
            call()
        finally:
            end_work()
    except SystemExit as leaving:
        if leaving.code == INTERRUPTED:  # what typer makes of Ctrl-C, without a word
            sys.stderr.write(_INTERRUPTED)
        return leaving.code if isinstance(leaving.code, int) else 1 if leaving.code else 0
    except SegueError as error:
        if traceback:
            raise
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write(_INTERRUPTED)
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone (segue ... | head)
        return 0
    except Exception as error:
        if traceback:
            raise
        # Libraries write too, each in its own way; a disk that is full is no bug wherever it is met.
        fault = (
            storage_fault(error, error.filename or "a file of this command") if isinstance(error, OSError) else error
        )
        if isinstance(fault, SegueError):
            sys.stderr.write(f"error: {fault}\n")
            return fault.exit_code
        sys.stderr.write(
            f"error: this is a bug in segue: {type(error).__name__}: {error}\n"
            "  -> run the command again with --traceback and report what it prints\n"
        )
        return 1
    return 0
