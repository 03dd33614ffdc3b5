"""What the hub costs beside the tools that do the same by themselves, in one run on one machine.

A hub in its own process is measured from outside: processor seconds and memory from /proc, syncs by strace, bytes from
its own counters. Peers are sha256 alone, `git` on the same repository, and a clone of the same directory. `--small`
takes a tenth of the data; `--only NAME` measures one thing. Search has a benchmark of its own: search.py.

    python benchmarks/hub.py [--small] [--only download] [--out results/hub.json]
"""

import argparse
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
HOME = tempfile.mkdtemp(prefix="lmc-bench-home-")
os.environ.update(HF_HOME=HOME, HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HUB_DISABLE_TELEMETRY="1")

from huggingface_hub import CommitOperationAdd, HfApi  # noqa: E402 - reads its settings at import
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from lmcommons import environment  # noqa: E402
from lmcommons.files import write_json  # noqa: E402
from lmcommons.hub.accounts.permissions import ANONYMOUS  # noqa: E402
from lmcommons.hub.database.tables import RepositoryType  # noqa: E402
from lmcommons.hub.repos.git import GitRepository  # noqa: E402
from lmcommons.hub.rooms import Hub as Rooms  # noqa: E402
from lmcommons.hub.settings import Settings  # noqa: E402

LMC = [sys.executable, "-c", "from lmcommons.cli.main import main; main()", "hub"]
TICK = os.sysconf("SC_CLK_TCK")
GIB, MIB = 1 << 30, 1 << 20
BLOCK = 1 << 20


@dataclass(frozen=True)
class Measure:
    """A figure, what it must reach, and what it was found from."""

    name: str
    value: float
    limit: float
    unit: str
    at_most: bool
    details: dict[str, Any]

    @property
    def reached(self) -> bool:
        """Whether it is what it must be."""
        return self.value <= self.limit if self.at_most else self.value >= self.limit


@dataclass
class Hub:
    """A hub in its own process, with the user `ada`."""

    data: Path
    endpoint: str
    token: str
    pid: int

    @property
    def api(self) -> HfApi:
        """The unmodified client."""
        return HfApi(self.endpoint, token=self.token)

    def cpu(self) -> float:
        """Processor seconds of the process and of those that it started and that ended."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / TICK

    def memory(self) -> int:
        """Bytes in memory."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * resource.getpagesize()

    def received(self) -> float:
        """Bytes of the bodies of all requests so far."""
        request = urllib.request.Request(f"{self.endpoint}/metrics", headers={"Authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(request) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith("lmcommons_received_bytes_total "):
                    return float(line.split()[1])
        raise RuntimeError("the hub does not count bytes")

    def rooms(self) -> Rooms:
        """The same hub opened here, without HTTP."""
        return Rooms(Settings.make(self.data))


@contextmanager
def start_hub(folder: Path, *options: str) -> Iterator[Hub]:
    """A hub without rate limits while the block runs."""
    data = folder / "hub"
    command = ["token", "add", "ada"] if data.exists() else ["user", "add", "ada", "--admin"]
    added = subprocess.run([*LMC, *command, "--data", data], capture_output=True, text=True, check=True)
    port = free_port()
    process = subprocess.Popen([*LMC, "serve", "--data", data, "--port", str(port), "--rate-limit", "0", *options])
    endpoint = f"http://127.0.0.1:{port}"
    try:
        while True:
            with suppress(OSError), urllib.request.urlopen(f"{endpoint}/healthz", timeout=5):
                break
            time.sleep(0.05)
        yield Hub(data, endpoint, added.stdout.strip(), process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def random_file(path: Path, size: int) -> Path:
    """A file of bytes that nothing compresses or deduplicates."""
    with path.open("wb") as file:
        for start in range(0, size, BLOCK):
            file.write(os.urandom(min(BLOCK, size - start)))
    return path


def upload_by_lfs(hub: Hub, repo_id: str, path: Path) -> None:
    """Upload a file as `w.bin`; what is given to the client as an open file goes by LFS."""
    hub.api.create_repo(repo_id, exist_ok=True)
    with path.open("rb") as file:
        hub.api.create_commit(repo_id, [CommitOperationAdd("w.bin", file)], commit_message="Weights")


def fetch(url: str, token: str) -> int:
    """Read all that an address answers; its bytes."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    buffer, count = bytearray(BLOCK), 0
    with urllib.request.urlopen(request) as answer:
        while read := answer.readinto(buffer):
            count += read
    return count


def median_seconds(run: Callable[[], object], rounds: int = 5) -> float:
    """The median time of some runs, after one that is not counted."""
    run()
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        run()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def git(path: Path, *arguments: str) -> bytes:
    """What git prints in a repository."""
    return subprocess.run(["git", f"--git-dir={path}", *arguments], capture_output=True, check=True).stdout


# ---------------------------------------------------------------- measurements, each with a hub of its own


def download(folder: Path, scale: float) -> Iterator[Measure]:
    """Processor seconds of the hub for each GiB that it sends."""
    size = int(GIB * scale)
    source = random_file(folder / "w", size)
    with start_hub(folder) as hub:
        upload_by_lfs(hub, "ada/m", source)
        hub.api.create_repo("ada/x")
        hub.api.upload_file(path_or_fileobj=source, path_in_repo="w.bin", repo_id="ada/x")
        for name, repo_id, limit in (("download", "ada/m", 1.0), ("download of a Xet file", "ada/x", 1.0)):
            yield sent(name, limit, f"{hub.endpoint}/{repo_id}/resolve/main/w.bin", hub.token, hub.cpu, size)
    if shutil.which("nginx"):
        with start_hub(folder, "--accel", "/internal/") as hub, start_nginx(folder, hub) as (endpoint, cpu):
            url = f"{endpoint}/ada/m/resolve/main/w.bin"
            yield (
                ours := sent("download with X-Accel, nginx too", 0.3, url, hub.token, lambda: hub.cpu() + cpu(), size)
            )
            objects = hub.data / "objects"
            stored = next(path for path in objects.rglob("*") if path.is_file() and path.stat().st_size == size)
            alone = sent("nginx", 0.3, f"{endpoint}/alone/{stored.relative_to(objects)}", hub.token, cpu, size)
            details = {"ours": ours.value, "peer": alone.value, "bytes": size}
            yield Measure("the same, beside nginx alone", ours.value / alone.value, 2, "× its CPU", True, details)


def sent(name: str, limit: float, url: str, token: str, cpu: Callable[[], float], size: int) -> Measure:
    """Fetch a file of `size` bytes until it is a GiB, after once that is not counted."""
    assert fetch(url, token) == size
    before, rounds = cpu(), round(GIB / size)
    for _ in range(rounds):
        assert fetch(url, token) == size
    spent = cpu() - before
    return Measure(name, spent / (rounds * size / GIB), limit, "CPU-s/GiB", True, {"bytes": size, "rounds": rounds})


@contextmanager
def start_nginx(folder: Path, hub: Hub) -> Iterator[tuple[str, Callable[[], float]]]:
    """nginx before a hub: its address, and its processor seconds so far."""
    port = free_port()
    paths = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(f"""
        daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log; events {{ }}
        http {{ access_log off; client_body_temp_path {folder}/body; {paths}
          server {{ listen 127.0.0.1:{port};
            location / {{ proxy_pass {hub.endpoint}; }}
            location /internal/ {{ internal; alias {hub.data}/objects/; sendfile on; tcp_nopush on; }}
            location /alone/ {{ alias {hub.data}/objects/; sendfile on; tcp_nopush on; }} }} }}""")
    process = subprocess.Popen(["nginx", "-p", folder, "-c", folder / "nginx.conf"], stderr=subprocess.DEVNULL)

    def cpu() -> float:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / TICK

    try:
        time.sleep(1)
        yield f"http://127.0.0.1:{port}", cpu
    finally:
        process.terminate()
        process.wait(30)


def upload(folder: Path, scale: float) -> Iterator[Measure]:
    """Processor seconds of a verified upload beside those of sha256 alone."""
    size = int(GIB * max(scale, 0.25))
    source = random_file(folder / "w", size)
    before = time.process_time()
    digest = hashlib.sha256()
    with source.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    alone = time.process_time() - before
    with start_hub(folder) as hub:
        for name, by_lfs in (("upload by LFS", True), ("upload by Xet", False)):
            repo_id = f"ada/{'lfs' if by_lfs else 'xet'}"
            hub.api.create_repo(repo_id)
            before = hub.cpu()
            if by_lfs:
                upload_by_lfs(hub, repo_id, source)
            else:
                hub.api.upload_file(path_or_fileobj=source, path_in_repo="w.bin", repo_id=repo_id)
            spent = hub.cpu() - before
            details = {"hub_cpu_seconds": spent, "sha256_cpu_seconds": alone, "bytes": size}
            yield Measure(name, spent / alone, 3.5, "× sha256 alone", True, details)


def memory(folder: Path, scale: float) -> Iterator[Measure]:
    """How much the hub grows while eight clients send and fetch large files at once."""
    size, clients = int(GIB * scale), 8
    sources = [random_file(folder / f"w{number}", size if number == 0 else MIB) for number in range(clients)]
    for source in sources[1:]:
        with source.open("ab") as file:
            file.truncate(size)  # the rest is zeros, and cheap to make
    with start_hub(folder) as hub:
        upload_by_lfs(hub, "ada/warm", sources[0])
        fetch(f"{hub.endpoint}/ada/warm/resolve/main/w.bin", hub.token)
        for name, run in (
            ("memory of 8 uploads", lambda number: upload_by_lfs(hub, f"ada/m{number}", sources[number])),
            ("memory of 8 downloads", lambda _: fetch(f"{hub.endpoint}/ada/warm/resolve/main/w.bin", hub.token)),
        ):
            start, peak = hub.memory(), 0
            threads = [threading.Thread(target=run, args=(number,)) for number in range(clients)]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                peak = max(peak, hub.memory())
                time.sleep(0.02)
            details = {"before_mib": start / MIB, "peak_mib": peak / MIB, "bytes_each": size}
            yield Measure(name, (peak - start) / MIB, 64, "MiB more", True, details)


def commit(folder: Path, scale: float) -> Iterator[Measure]:
    """How often a commit of 100 small files waits for the disk."""
    if shutil.which("strace") is None:
        return
    with start_hub(folder) as hub:
        hub.api.create_repo("ada/m")
        hub.api.upload_file(path_or_fileobj=b"first", path_in_repo="first.txt", repo_id="ada/m")
        operations = [CommitOperationAdd(f"{number}.txt", b"%d" % number) for number in range(100)]
        calls = folder / "calls"
        command = ["strace", "-f", "-qq", "-y", "-e", "trace=fsync,fdatasync,syncfs", "-o", calls]
        trace = subprocess.Popen([*command, "-p", str(hub.pid)])
        time.sleep(1)
        hub.api.create_commit("ada/m", operations, commit_message="Files")
        time.sleep(0.5)
        trace.terminate()
        trace.wait(30)
        lines = [line for line in calls.read_text().splitlines() if "resumed>" not in line and "sync" in line]
        yield Measure("syncs of a commit of 100 files", len(lines), 8, "fsync", True, {"calls": lines})


def trees(folder: Path, scale: float) -> Iterator[Measure]:
    """Reads of a repository beside git: a file, a list of 10,000 files, last commits, a clone."""
    with start_hub(folder) as hub:
        hub.api.create_repo("ada/m")
        numbers = random.Random(1)
        files = [(f"d{n % 100:02}/{n:05}.txt", numbers.randbytes(int(10_000 * scale))) for n in range(10_000)]
        for start in range(0, 10_000, 2_000):
            operations = [CommitOperationAdd(*file) for file in files[start : start + 2_000]]
            hub.api.create_commit("ada/m", operations, commit_message=f"Files from {start}")
        for number in range(100):
            operations = [CommitOperationAdd(f"page/{number:03}.txt", b"%d" % number)]
            hub.api.create_commit("ada/m", operations, commit_message=f"Page {number}")
        rooms = hub.rooms()
        repository = rooms.repositories.find(ANONYMOUS, RepositoryType.MODEL, "ada/m")
        tree = rooms.repositories.git(repository)
        head = tree.resolve("main")

        def fresh() -> GitRepository:
            return GitRepository(tree.path)  # which remembers nothing

        def resolve() -> bytes:
            git = fresh()
            return git.read(git.entry(git.resolve("main"), "d50/00050.txt").oid)

        ours, theirs = (
            median_seconds(resolve, 50),
            median_seconds(lambda: git(tree.path, "cat-file", "blob", "main:d50/00050.txt"), 20),
        )
        assert resolve() == git(tree.path, "cat-file", "blob", "main:d50/00050.txt")
        details = {"ours_ms": ours * 1000, "peer_ms": theirs * 1000}
        yield Measure("reading a file, beside git cat-file", theirs / ours, 10, "× faster", False, details)

        theirs = median_seconds(lambda: git(tree.path, "ls-tree", "-r", "-t", "-l", head))
        for name, run in (
            ("listing 10,000 files, beside git ls-tree", lambda: tree.entries(head, recursive=True)),
            ("the same for the first time", lambda: fresh().entries(head, recursive=True)),
            ("its first page of 1,000 for the first time", lambda: fresh().entries(head, recursive=True, limit=1_001)),
        ):
            ours = median_seconds(run)
            details = {"ours_ms": ours * 1000, "peer_ms": theirs * 1000}
            yield Measure(name, ours / theirs, 1, "× its time", True, details)

        page = [f"page/{number:03}.txt" for number in range(100)]
        ours = median_seconds(lambda: rooms.last_commits.of(repository, head, page))
        found = rooms.last_commits.of(repository, head, page)
        theirs = median_seconds(
            lambda: [git(tree.path, "log", "-1", "--format=%H", head, "--", path) for path in page], 1
        )
        assert all(
            git(tree.path, "log", "-1", "--format=%H", head, "--", path).decode().strip() == found[path].oid
            for path in page[::25]
        )
        details = {"ours_ms": ours * 1000, "peer_ms": theirs * 1000}
        yield Measure("last commits of 100 files, beside git log", theirs / ours, 20, "× faster", False, details)

        def clone(source: str) -> float:
            target = folder / "clone"
            shutil.rmtree(target, ignore_errors=True)
            began = time.perf_counter()
            subprocess.run(["git", "clone", "--quiet", "--bare", source, target], check=True)
            return time.perf_counter() - began

        pairs = [(clone(f"{hub.endpoint}/ada/m"), clone(f"file://{tree.path}")) for _ in range(5)]
        ratio = statistics.median(ours / theirs for ours, theirs in pairs)
        details = {"ours_seconds": pairs[0][0], "peer_seconds": pairs[0][1]}
        yield Measure("clone, beside file://", ratio, 1.3, "× its time", True, details)
        rooms.close()


SEND = """
import sys
from huggingface_hub import HfApi
HfApi().upload_file(path_or_fileobj=sys.argv[1], path_in_repo="d.jsonl", repo_id="ada/d")
"""


def append(folder: Path, scale: float) -> Iterator[Measure]:
    """What a second upload of a JSONL file sends when 1 % was added, by a client that remembers nothing."""
    lines = max(100_000, int(400_000 * scale))  # a JSONL file of less than 10 MiB is no large file
    words = random.Random(1)

    def line(number: int) -> bytes:
        return json.dumps({"id": number, "text": words.randbytes(100).hex()}).encode() + b"\n"

    source = folder / "data.jsonl"
    with source.open("wb") as file:
        file.writelines(map(line, range(lines)))
    with start_hub(folder) as hub:
        hub.api.create_repo("ada/d")
        sent = []
        for number in range(2):
            home = {"HF_HOME": str(folder / f"home{number}"), "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": hub.token}
            before = hub.received()
            subprocess.run([sys.executable, "-c", SEND, source], env=os.environ | home, check=True)
            sent.append(hub.received() - before)
            with source.open("ab") as file:
                file.writelines(map(line, range(lines, lines + lines // 100)))
        details = {"bytes": source.stat().st_size, "first": sent[0], "second": sent[1]}
        yield Measure(
            "bytes sent for 1 % more of a JSONL file",
            100 * sent[1] / source.stat().st_size,
            5,
            "% of the file",
            True,
            details,
        )


def clients(folder: Path, scale: float) -> Iterator[Measure]:
    """200 clients at once: errors other than 429, and wrong bytes."""
    seconds = max(10, int(60 * scale))
    with start_hub(folder) as hub:
        command = [sys.executable, HERE / "hub_load.py", hub.endpoint, "--clients", "200", "--seconds", str(seconds)]
        done = subprocess.run(
            command, env=os.environ | {"HF_TOKEN": hub.token}, capture_output=True, text=True, check=True
        )
        found = json.loads(done.stdout)
        wrong = found["wrong_bytes"] + sum(found["errors"].values())
        yield Measure(f"errors and wrong bytes of 200 clients in {seconds} s", wrong, 0, "requests", True, found)


MEASUREMENTS = {run.__name__: run for run in (download, upload, memory, commit, trees, append, clients)}


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=MEASUREMENTS, action="append")
    parser.add_argument("--small", action="store_true", help="a tenth of the data and of the time")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "hub.json")
    options = parser.parse_args()
    scale = 0.1 if options.small else 1.0
    found: list[Measure] = []
    for name in options.only or MEASUREMENTS:
        print(f"{name}: {MEASUREMENTS[name].__doc__}", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="lmc-bench-") as folder:
            found += MEASUREMENTS[name](Path(folder), scale)
    shutil.rmtree(HOME, ignore_errors=True)
    table = Table("what", "value", "must be", "unit", title="The hub")
    for measure in found:
        bound = f"{'≤' if measure.at_most else '≥'} {measure.limit:g}"
        table.add_row(
            measure.name, f"{measure.value:,.2f}", bound, measure.unit, style=None if measure.reached else "red"
        )
    Console().print(table)
    results = [{**vars(measure), "reached": measure.reached} for measure in found]
    write_json(options.out, {"scale": scale, "environment": environment.describe(), "results": results})


if __name__ == "__main__":
    main()
