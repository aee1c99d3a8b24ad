"""The command line: it parses, calls a public function, prints. Everything it does can be had from Python.

Bad input ends with exit code 2 and one line on standard error; `PYIMPLICIT_DEBUG=1` shows the traceback as well.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from pyimplicit.cli.parser import UsageError, parse
from pyimplicit.errors import PyImplicitError

BAD_INPUT = 2
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The arguments after the program's name; those of the process by default.

    Returns:
        The exit code: 0 for success, 1 if something failed on the way, 2 for bad input, 130 after Ctrl-C.
    """
    try:
        arguments = parse(sys.argv[1:] if argv is None else list(argv))
        from pyimplicit.cli import commands  # imports torch: not needed for --help

        code: int = getattr(commands, arguments.command)(arguments)
        sys.stdout.flush()
        return code
    except SystemExit as stop:  # --help and --version
        return int(stop.code or 0)
    except KeyboardInterrupt:
        print(
            "pyimplicit: interrupted; the same command goes on from here where its work can be resumed", file=sys.stderr
        )
        return INTERRUPTED
    except BrokenPipeError:  # the reader of the output, such as head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (UsageError, PyImplicitError, ValueError, TypeError, OSError) as error:
        return _fail(error, BAD_INPUT, str(error))
    except Exception as error:
        return _fail(error, 1, f"{type(error).__name__}: {error} (PYIMPLICIT_DEBUG=1 shows where)")


def _fail(error: BaseException, code: int, text: str) -> int:
    if os.environ.get("PYIMPLICIT_DEBUG") == "1":
        traceback.print_exception(error)
    print(f"pyimplicit: error: {' '.join(text.split()) or type(error).__name__}", file=sys.stderr)
    return code
