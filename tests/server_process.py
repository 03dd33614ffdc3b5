"""A real `lmc serve` for tests, in its own process on a free loopback port."""

import os
import select
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hub_process import PATIENCE
from tiny_run import LMC

CONTEXT = 2048  # tokens of the model that the tests serve
START_LIMIT = 240  # seconds; a busy machine is slow, a broken server ends at once


@dataclass
class ServerProcess:
    """A running server; `url` ends in /v1."""

    process: subprocess.Popen[str]
    url: str

    @property
    def root(self) -> str:
        return self.url.removesuffix("/v1")

    def metrics(self, *names: str) -> list[float]:
        """The values of these lines of /metrics."""
        lines = urllib.request.urlopen(f"{self.root}/metrics", timeout=PATIENCE).read().decode().splitlines()
        return [float(next(line.split()[-1] for line in lines if line.startswith(name))) for name in names]

    def metric(self, name: str) -> float:
        """The value of one line."""
        return self.metrics(name)[0]

    def wait_for(self, name: str, value: float, limit: float = PATIENCE) -> None:
        """Wait until a metric has a value."""
        deadline = time.monotonic() + limit
        while self.metric(name) != value:
            assert time.monotonic() < deadline, f"{name} is {self.metric(name)}, not {value}, after {limit} s"
            time.sleep(0.02)


@contextmanager
def start_server(model: Path, *options: object, **environment: str) -> Iterator[ServerProcess]:
    """Serve `model` and yield when the ready line is there; the server is killed at the end if it still runs."""
    process = subprocess.Popen(
        [LMC, "serve", model, "--port", "0", *map(str, options)],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )
    try:
        assert process.stderr is not None
        assert select.select([process.stderr], [], [], START_LIMIT)[0], "the server said nothing"
        line = process.stderr.readline()
        assert " is ready at http://" in line, line + process.stderr.read()
        yield ServerProcess(process, line.split()[-1])
    finally:
        process.kill()
        process.wait()
