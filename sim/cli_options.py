"""What a person asked of `run`, and the bar that shows how far it is."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What a person asked of `run`."""

    scenario: str
    out: Path | None
    overrides: tuple[str, ...]
    jobs: int | None
    memo: bool
    force: bool

    @property
    def processes(self) -> int:
        """Return how many processes to use."""
        return self.jobs or os.cpu_count() or 1

    @contextmanager
    def progress(self, doing: str) -> Iterator[Callable[[int, int], None]]:
        """Show a bar on stderr; yield a function of what is done and what there is in all."""
        console = Console(stderr=True)
        columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(
            *columns, console=console, transient=True, disable=not console.is_terminal
        ) as bar:
            task = bar.add_task(doing, total=None)

            def report(done: int, total: int) -> None:
                bar.update(task, completed=done, total=total)

            yield report
