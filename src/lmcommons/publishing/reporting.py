"""A run shows itself on the hub while it trains: what it writes to `metrics.jsonl` is reported every few seconds.

A thread of the process that starts the run follows the file, so that training neither knows of it nor waits for it,
whatever the task and the number of processes. A hub that is away is told later what it missed; one that refuses is
asked no more.
"""

import json
import math
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from lmcommons import environment, files
from lmcommons.client import RunReports
from lmcommons.errors import CommandError, RequestError, StoppedError
from lmcommons.progress import say
from lmcommons.publishing.hub import Hub, one_line
from lmcommons.recipe import Recipe, TaskRecipe

FIRST, INTERVAL = 1.0, 10.0  # seconds to the second report, and between later ones: each pause is twice the last
PART = 500  # lines of the metrics in one report
END_LIMIT = 10.0  # seconds that a run that ended waits for the hub to hear of it

Line = dict[str, Any]  # of metrics.jsonl: `step`, and numbers by name


@contextmanager
def reported(recipe: Recipe | TaskRecipe, stage: str, directory: Path, steps: Callable[[Line], int]) -> Iterator[None]:
    """Report the run that the block does in `directory`, where the recipe asks for it, and how the block ended.

    The run has a name of its own in `directory/run_id`: when it goes on after a stop, it is the same one on the hub. No
    failure to report ends the block; each is a line on stderr, once. Where the block does not handle SIGTERM itself, it
    ends as by Ctrl-C, so that the hub hears of it.

    Args:
        recipe: its `publishing` section names the repository, which is made when it is absent.
        stage: what the run does, for people.
        directory: where the run writes `metrics.jsonl`, named after what the stage depends on.
        steps: how many steps the run will have at its end, as far as a line of its metrics tells.
    """
    if recipe.publishing is None or not recipe.publishing.report_progress:
        yield
        return
    reporter = _Reporter(recipe, stage, directory, steps)
    state = "failed"
    try:
        with _terminated_as_interrupted():
            yield
        state = "finished"
    except (StoppedError, KeyboardInterrupt):
        state = "stopped"
        raise
    finally:
        reporter.end(state)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # which alone has signals
        yield
        return
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


class _Reporter:
    """The thread that reports, from its making to `end`."""

    def __init__(self, recipe: Recipe | TaskRecipe, stage: str, directory: Path, steps: Callable[[Line], int]) -> None:
        self._recipe, self._steps = recipe, steps
        self._metrics = directory / "metrics.jsonl"
        self._run = _run_id(directory / "run_id")
        self._description = {
            "name": recipe.name,
            "stage": stage,
            "recipe": f"{recipe.name}@{directory.name}",
            "machine": environment.machine(),
        }
        self._reports: RunReports | None = None
        self._file, self._sent = 0, -1  # which file the metrics are, by inode, and the last step of it that was told
        self._pace: tuple[float, int] | None = None  # when the first step was seen, and which
        self._lines: list[Line] = []
        self._away = self._refused = False
        self._state: str | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="report", daemon=True)
        self._thread.start()

    def end(self, state: str) -> None:
        """Report what is left and the state, if the hub hears of it in a few seconds."""
        self._state = state
        self._ended.set()
        self._thread.join(END_LIMIT)

    def _work(self) -> None:
        pause = FIRST
        while not self._ended.is_set() and not self._refused:
            self._try()
            self._ended.wait(pause)
            pause = min(2 * pause, INTERVAL)
        if not self._refused:
            self._try()

    def _try(self) -> None:
        try:
            self._report()
        except RequestError as error:
            self._refused = True
            say(f"progress is not reported: {error}")
        except CommandError as error:
            if not self._away:
                say(f"progress will be reported when the hub can take it: {error}")
            self._away = True
        else:
            self._away = False

    def _report(self) -> None:
        if self._reports is None:
            self._reports = self._begin()
        self._read()
        left = [line for line in self._lines if line["step"] > self._sent]
        numbers = self._progress()
        if self._state == "finished" and numbers:
            numbers["steps"] = numbers["step"]  # it may have ended early
        with one_line(f"run {self._run}"):
            try:
                for first in range(0, max(1, len(left)), PART):
                    part = left[first : first + PART]
                    self._reports.progress(numbers, part)
                    self._sent = part[-1]["step"] if part else self._sent
                if self._state is not None:
                    self._reports.end(self._state)
            except HfHubHTTPError as error:
                if error.response.status_code != 404:
                    raise
                # The run or its repository is gone: it is begun anew, with all of its points.
                self._reports, self._sent = None, -1
                raise CommandError(f"run {self._run} is not on the hub any more") from error

    def _begin(self) -> RunReports:
        hub = Hub.connect(self._recipe)
        reports = RunReports(hub.api, hub.model, self._run)
        with one_line(f"{hub.url}, run of {hub.model}"):
            try:
                try:
                    reports.begin(self._description)
                except RepositoryNotFoundError:
                    hub.create("model", hub.model)
                    reports.begin(self._description)
            except HfHubHTTPError as error:
                if error.response.status_code == 404:
                    raise RequestError(f"{hub.url} is no hub that shows runs") from error
                raise
        return reports

    def _read(self) -> None:
        """Read the metrics as they are now; a run that goes on from a checkpoint begins with a new file of them."""
        try:
            with self._metrics.open(encoding="utf-8") as file:
                inode, content = os.fstat(file.fileno()).st_ino, file.read()
        except FileNotFoundError:
            return
        if inode != self._file:
            self._file, self._sent, self._pace = inode, -1, None
        lines = [json.loads(line) for line in content.splitlines(keepends=True) if line.endswith("}\n")]
        self._lines = [{name: value for name, value in line.items() if math.isfinite(value)} for line in lines]

    def _progress(self) -> dict[str, int]:
        """How far the run is, as far as its last line tells, and the seconds left at the pace since the first one."""
        if not self._lines:
            return {}
        last = self._lines[-1]
        step, steps, moment = last["step"], self._steps(last), time.monotonic()
        numbers = {"step": step, "steps": steps} | ({"tokens": last["tokens"]} if "tokens" in last else {})
        if self._pace is None:
            self._pace = moment, step
        elif step > self._pace[1]:
            numbers["secondsLeft"] = round((steps - step) * (moment - self._pace[0]) / (step - self._pace[1]))
        return numbers


def _run_id(path: Path) -> str:
    """The name of the run, which is chosen once."""
    if not path.is_file():
        files.write_text(path, f"{secrets.token_hex(8)}\n")
    return path.read_text(encoding="utf-8").strip()
