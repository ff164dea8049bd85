"""How the command line looks: its console, its tables, and what a user sees while something takes long.

It runs nothing by itself; a step is what happens in its `with` block.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, JustifyMethod
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

PLAIN_WIDTH = 160
"""Columns where there is no terminal: in a file or a CI log nobody wants lines broken at 80."""


def make_console(*, stderr: bool = False) -> Console:
    """Returns a console for stdout or stderr."""
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    return console


def make_table(*headings: str) -> Table:
    """Returns an empty table without lines; a heading that begins with > is one of numbers.

    However narrow the terminal is, what stands in the first column can be copied: it is not broken.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in headings:
        justify: JustifyMethod = "right" if heading.startswith(">") else "left"
        table.add_column(heading.lstrip(">"), justify=justify, overflow="fold", no_wrap=not table.columns)
    return table


class Step:
    """One step under way; `result` may be set to say more than its title when it is done."""

    def __init__(self, title: str) -> None:
        self.result = title


class Steps:
    """Steps shown on `console`: a spinner while they run where there is a terminal, plain lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Shows `title` while the block runs, then its result and its time, or that it failed."""
        step, begin = Step(title), time.monotonic()
        try:
            with self._running(title):
                yield step
        except BaseException:
            self._line("[red]failed[/red]", title, begin)
            raise
        self._line("[green]ok[/green]    ", step.result, begin)

    @contextmanager
    def _running(self, title: str) -> Iterator[None]:
        if not self.console.is_terminal:
            yield
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=self.console, transient=True) as progress:
            progress.add_task(escape(title))
            yield

    def _line(self, mark: str, text: str, begin: float) -> None:
        self.console.print(f"{mark} {time.monotonic() - begin:5.1f} s  {escape(text)}", soft_wrap=True)
