"""Long work shows itself: one line on stderr with the count, rate, time left and the numbers that matter.

On a terminal the line is live (rich); elsewhere it is printed every ten seconds, so that logs stay readable.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Task as RichTask
from rich.text import Text

QUIET_INTERVAL = 10.0  # seconds between lines when stderr is not a terminal

console = Console(stderr=True, highlight=False)


class Task:
    """One piece of long work; call `advance` as it is done."""

    def __init__(self, description: str, total: float | None, unit: str, live: Progress | None, completed: int) -> None:
        self.description, self.total, self.unit = description, total, unit
        self.completed = self._completed_at_start = completed
        self._started = self._printed = time.monotonic()
        self._notes = ""
        self._live = live
        self._task = None
        if live is not None:
            self._task = live.add_task(description, total=total, completed=completed, unit=unit, notes="")

    def advance(self, amount: int = 1, **numbers: float | str) -> None:
        """Count `amount` more units done; `numbers` (loss=2.31) are shown beside the rate until replaced."""
        self.completed += amount
        if numbers:
            self._notes = "  ".join(f"{name} {_short(value)}" for name, value in numbers.items())
        if self._live is not None and self._task is not None:
            self._live.update(self._task, completed=self.completed, notes=self._notes)
        elif time.monotonic() - self._printed >= QUIET_INTERVAL:
            self._printed = time.monotonic()
            print(self._line(), file=sys.stderr, flush=True)

    def _line(self) -> str:
        elapsed = time.monotonic() - self._started
        rate = (self.completed - self._completed_at_start) / elapsed if elapsed else 0.0
        text = f"{self.description}: {self.completed:,.0f}"
        if self.total:
            text += f" of {self.total:,.0f}"
        text += f" {self.unit}, {rate:,.0f}/s"
        if self.total and rate:
            text += f", {_duration((self.total - self.completed) / rate)} left"
        return f"{text}  {self._notes}".rstrip()


class _Rate(ProgressColumn):
    def render(self, task: RichTask) -> Text:
        speed = task.finished_speed or task.speed
        done = f"{task.completed:,.0f}" + (f"/{task.total:,.0f}" if task.total else "")
        return Text(f"{done} {task.fields['unit']}" + (f"  {speed:,.0f}/s" if speed else ""))


@contextmanager
def task(description: str, total: float | None = None, unit: str = "items", completed: int = 0) -> Iterator[Task]:
    """Show a piece of work from `completed` to `total` units (None: unknown) while the block runs."""
    if not console.is_terminal:
        yield Task(description, total, unit, None, completed)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        _Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[notes]}"),
    )
    with Progress(*columns, console=console, transient=True) as live:
        yield Task(description, total, unit, live, completed)


def say(text: str) -> None:
    """One plain line on stderr."""
    console.print(text, markup=False, soft_wrap=True)


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:,.4g}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
