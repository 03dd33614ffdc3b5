"""A real hub for tests: `lmc hub serve` in its own process on a free loopback port.

Imported before `huggingface_hub`, which reads its settings at import: uploads go by LFS, nothing is reported.
"""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import stack

if TYPE_CHECKING:
    from lmcommons.hub.rooms import Hub

os.environ.update(HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_PROGRESS_BARS="1")
os.environ.update(HF_HUB_DOWNLOAD_TIMEOUT="120", HF_HUB_ETAG_TIMEOUT="120")  # seconds; ten are few on a busy machine
PATIENCE = 120  # seconds for what should take one; a busy machine is slow, a broken hub ends at once
LMC = [sys.executable, "-c", "from lmcommons.cli.main import main; main()"]


@dataclass
class HubProcess:
    """A running hub; `endpoint` is what HF_ENDPOINT wants."""

    data: Path
    port: int
    options: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] = field(init=False)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """What the hub printed."""
        return self.data.with_name(f"{self.data.name}.log")

    def start(self) -> None:
        """Start the hub and return when it answers."""
        self.data.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [*LMC, "hub", "serve", "--data", self.data, "--port", str(self.port), *stack.workers(), *self.options],
                env=stack.environment(self.data) | os.environ,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"the hub ended with {self.process.returncode}:\n{self.log.read_text()[-4000:]}")
            try:
                urllib.request.urlopen(f"{self.endpoint}/api/whoami-v2", timeout=5)
            except urllib.error.HTTPError as answer:
                if answer.code in (401, 429):  # the second where the test is about limits, and this has reached one
                    return
                raise
            except OSError:
                time.sleep(0.02)
        self.kill()
        raise RuntimeError(f"the hub did not answer in {PATIENCE} s:\n{self.log.read_text()[-4000:]}")

    def add_user(self, name: str, *options: str) -> str:
        """A new user's write token."""
        return self.command("user", "add", name, *options).strip()

    def add_organisation(self, name: str, *options: str) -> None:
        self.command("org", "add", name, *options)

    def add_token(self, user: str, role: str) -> str:
        """Another token of a user."""
        return self.command("token", "add", user, "--role", role).strip()

    def command(self, *arguments: str, typed: str = "") -> str:
        """Standard output of `lmc hub ARGUMENTS --data DIR`; `typed` is its standard input."""
        done = lmc_hub(*arguments, "--data", self.data, typed=typed)
        if done.returncode:
            raise RuntimeError(f"lmc hub {' '.join(arguments)} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    @contextmanager
    def rooms(self) -> "Iterator[Hub]":
        """The hub's rooms, opened beside the running process."""
        from open_rooms import open_rooms

        opened = open_rooms(self.data)
        try:
            yield opened
        finally:
            opened.close()

    def stored(self) -> str:
        """Everything that the hub's database holds."""
        from sqlalchemy import select

        from lmcommons.hub.database.tables import Table

        with self.rooms() as rooms, rooms.database.read() as session:
            tables = Table.metadata.sorted_tables
            return "\n".join(repr(tuple(row)) for table in tables for row in session.execute(select(table)))

    def workers(self) -> set[int]:
        """The processes that answer requests, where it has several: children that share its listening socket."""
        found = set()
        for pid in children(self.process.pid):
            with suppress(FileNotFoundError, ProcessLookupError):  # it ended
                if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text():
                    found.add(pid)
        return found

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        """SIGKILL, as a power cut would do."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)


def lmc_hub(*arguments: object, typed: str = "") -> "subprocess.CompletedProcess[str]":
    """`lmc hub ARGUMENTS`, without the second that a new process takes to start; `--data` is on the session's stack."""
    from lmcommons.cli.main import run

    words = [str(argument) for argument in arguments]
    places = stack.environment(Path(words[words.index("--data") + 1])) if "--data" in words else {}
    output, errors = StringIO(), StringIO()
    with redirect_stdout(output), redirect_stderr(errors), _stdin(typed), _environment(places):
        code = run(["hub", *words])
    return subprocess.CompletedProcess(arguments, code, output.getvalue(), errors.getvalue())


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


@contextmanager
def _stdin(text: str) -> Iterator[None]:
    former, sys.stdin = sys.stdin, StringIO(text)
    try:
        yield
    finally:
        sys.stdin = former


def children(pid: int) -> set[int]:
    """The processes that a process started and that have not ended, whichever of its threads it was."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # the thread ended
            found |= {int(child) for child in (task / "children").read_text().split()}
    return found


_reserved: list[socket.socket] = []


def free_port() -> int:
    """A loopback port that nobody listens on, and that no other process is given while this one lives.

    A socket that is bound and does not listen keeps it: the kernel gives it to nobody who asks for any port, and a
    server that asks for it, with SO_REUSEADDR as all do, has it.
    """
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    _reserved.append(reserved)
    return int(reserved.getsockname()[1])


@contextmanager
def start_hub(data: Path, *options: str) -> Iterator[HubProcess]:
    """A hub on `data` while the block runs; stopped at its end, killed when it does not stop."""
    hub = HubProcess(data, free_port(), options)
    hub.start()
    try:
        yield hub
    finally:
        if hub.process.poll() is None:
            hub.process.send_signal(signal.SIGTERM)
            try:
                hub.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                hub.kill()
