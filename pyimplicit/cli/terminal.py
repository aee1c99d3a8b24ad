"""What commands show: progress, tables, remarks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress


@contextmanager
def bar(text: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on standard error, in a terminal only; yields `progress(done, total)`."""
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bars:
        task = bars.add_task(text, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def console() -> Console:
    """Return a console wide enough for the tables where there is no terminal to fit them into."""
    return Console() if sys.stdout.isatty() else Console(width=120)


def note(text: str) -> None:
    """Print a remark on standard error."""
    print(f"pyimplicit: {text}", file=sys.stderr)
