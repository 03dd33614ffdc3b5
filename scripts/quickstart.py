"""From nothing to a hub with a model on it, answering: what `make quickstart` runs.

Every step is a command that a member would type, printed before it runs. What the steps promise is then checked with
the programs that others use: `transformers` and `datasets` read from the hub into an empty cache, and the served model
is asked over HTTP. Everything lies in `quickstart/`; a second run reuses what is there. With `--exit` the servers are
stopped at the end, and the exit code is 0 only when every check passed.
"""

import argparse
import json
import os
import resource
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parent.parent
LMC = Path(sys.executable).with_name("lmc")
MEMBER = "founder"
HUB_PORT, MODEL_PORT = 8000, 8001
PROMPT = "Return True if"  # the best of four that were tried; it begins many docstrings
START_LIMIT = 60  # seconds that a server may take to answer


class QuickstartError(Exception):
    """A step failed; the text says which and what to do."""


class Quickstart:
    """The steps in order, and the servers that they leave running."""

    def __init__(self, home: Path, recipe: Path) -> None:
        self.home, self.recipe = home, recipe
        self.servers: list[subprocess.Popen[bytes]] = []
        self.environment = dict(os.environ)
        self.checked = 0

    def run(self) -> None:
        started = time.monotonic()
        hub = f"http://127.0.0.1:{free_port(HUB_PORT)}"
        step("1  a hub of your own")
        self.serve("hub", ["hub", "serve", "--data", self.home / "hub", "--port", port_of(hub)], f"{hub}/api/whoami-v2")
        self.environment |= {"HF_ENDPOINT": hub, "HF_TOKEN": self.token(hub)}

        step("2  data, tokenizer, training, evaluation, publishing")
        stages = json.loads(self.lmc("run", self.recipe, "--out", self.home / "runs", "--json"))
        dataset, model = (stages["publishing"]["report"][kind] for kind in ("dataset", "model"))
        results = stages["evaluation"]["report"]

        step("3  what others see")
        self.check("the model's page opens", lambda: page(model["url"]))
        self.check("the dataset's page opens", lambda: page(dataset["url"]))
        run = Path(stages["pretraining"]["directory"])
        self.check(
            "transformers loads the model from the hub; its logits equal ours", lambda: self.transformers(model, run)
        )
        self.check("datasets loads the dataset from the hub", lambda: self.datasets(dataset))

        step("4  the model, served")
        api = f"http://127.0.0.1:{free_port(MODEL_PORT)}"
        self.serve("model", ["serve", model["repository"], "--port", port_of(api)], f"{api}/v1/models")
        self.check("the served model answers", lambda: complete(api, model["repository"]))

        step("5  ready")
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        bits = results["bits_per_byte"]
        others = sorted((row["bits_per_byte"]["value"], name) for name, row in results["baselines"].items())
        beside = ", ".join(f"{name} {value:.3f}" for value, name in others)
        print(
            f"{self.checked} checks passed in {time.monotonic() - started:.0f} s, peak memory of a step {peak:.1f} GiB"
        )
        print(f"bits per byte on held-out text: {bits['value']:.3f} ({bits['low']:.3f} to {bits['high']:.3f})")
        print(f"beside it, on the same text: {beside}\n")
        print(f"  sign in  {hub}/login as {MEMBER}, with the token in {self.home / 'token'}")
        print(f"  hub      {hub}\n  model    {model['url']}\n  dataset  {dataset['url']}\n  API      {api}/v1\n")
        body = json.dumps({"model": model["repository"], "prompt": PROMPT, "max_tokens": 40})
        print(f"  curl {api}/v1/completions -H 'Content-Type: application/json' \\\n    -d '{body}'\n", flush=True)

    # ------------------------------------------------------------ steps

    def serve(self, name: str, arguments: list[str | Path], ready: str) -> None:
        """Start a server and wait until it answers."""
        log = self.home / f"{name}.log"
        show(arguments)
        with log.open("ab") as output:
            server = subprocess.Popen(
                [LMC, *map(str, arguments)], stdout=output, stderr=output, env=self.environment, start_new_session=True
            )
        self.servers.append(server)
        started = time.monotonic()
        while not answers(ready):
            if server.poll() is not None:
                raise QuickstartError(f"the {name} server ended with code {server.returncode}; see {log}")
            if time.monotonic() - started > START_LIMIT:
                raise QuickstartError(f"the {name} server did not answer in {START_LIMIT} s; see {log}")
            time.sleep(0.05)
        print(f"  ready after {time.monotonic() - started:.1f} s", flush=True)

    def token(self, hub: str) -> str:
        """The member's token, from an earlier run where the hub still knows it."""
        kept = self.home / "token"
        if kept.exists() and answers(f"{hub}/api/whoami-v2", kept.read_text(), 200):
            return kept.read_text()
        known = answers(f"{hub}/api/users/{MEMBER}/overview", None, 200)
        command = ["token", "add", MEMBER] if known else ["user", "add", MEMBER, "--admin"]
        token = self.lmc("hub", *command, "--data", self.home / "hub").strip()
        kept.touch(mode=0o600)
        kept.write_text(token)
        return token

    def lmc(self, *arguments: str | Path) -> str:
        """Run a command whose progress the reader sees and whose output we need."""
        show(arguments)
        done = subprocess.run(
            [LMC, *map(str, arguments)], stdout=subprocess.PIPE, env=self.environment, text=True, check=False
        )
        if done.returncode:
            raise QuickstartError(f"lmc {arguments[0]} ended with code {done.returncode}")
        return done.stdout

    def check(self, what: str, work: Callable[[], str]) -> None:
        """Run a check; it raises, or returns what it saw."""
        print(f"  {what}: {work()}", flush=True)
        self.checked += 1

    def python(self, code: str, *arguments: str) -> str:
        """Run Python with an empty cache of models and datasets, as on a stranger's machine."""
        with tempfile.TemporaryDirectory() as cache:
            environment = self.environment | {"HF_HOME": cache, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
            done = subprocess.run(
                [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment, check=False
            )
        if done.returncode:
            raise QuickstartError((done.stderr.strip() or "no output").splitlines()[-1])
        return done.stdout.strip()

    def transformers(self, model: dict[str, str], run: Path) -> str:
        return self.python(TRANSFORMERS, model["repository"], model["commit"], str(run / "model"))

    def datasets(self, dataset: dict[str, str]) -> str:
        return self.python(DATASETS, dataset["repository"], dataset["commit"])

    def stay_up(self) -> None:
        """Return at Ctrl-C."""
        print("Stays up until Ctrl-C.", flush=True)
        try:
            while all(server.poll() is None for server in self.servers):
                time.sleep(1)
        except KeyboardInterrupt:
            print("\nstopped; the same command starts it again in seconds", flush=True)
            return
        raise QuickstartError(f"a server ended; see the logs in {self.home}")

    def stop(self) -> None:
        for server in self.servers:
            server.terminate()
        for server in self.servers:
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()


TRANSFORMERS = """
import sys
from pathlib import Path
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
import lmcommons.model
repository, revision, directory = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(repository, revision=revision)
theirs = AutoModelForCausalLM.from_pretrained(repository, revision=revision, dtype=torch.float32).eval()
ours = lmcommons.model.load(Path(directory)).eval()
tokens = tokenizer("The function returns a new list.", return_tensors="pt").input_ids
with torch.no_grad():
    difference = (theirs(tokens).logits - ours(tokens)).abs().max().item()
if not difference < 1e-4:
    sys.exit(f"logits differ by {difference:.2e}")
print(f"{sum(p.numel() for p in theirs.parameters()):,} parameters, largest difference {difference:.1e}")
"""

DATASETS = """
import sys
import datasets
found = datasets.load_dataset(sys.argv[1], revision=sys.argv[2])
if set(found) != {"train", "validation", "test"}:
    sys.exit(f"splits are {sorted(found)}")
print(", ".join(f"{len(rows):,} {name}" for name, rows in found.items()) + " documents")
"""


def page(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        size = len(answer.read())
    return f"{url}, {size / 1000:.0f} kB"


def complete(api: str, model: str) -> str:
    asked = {"model": model, "prompt": PROMPT, "max_tokens": 30, "temperature": 0.7, "top_p": 0.9, "seed": 0}
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{api}/v1/completions", json.dumps(asked).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = json.load(answer)["choices"][0]["text"]
    if not text.strip():
        raise QuickstartError("the served model answered with nothing")
    return repr(PROMPT + text)


def answers(url: str, token: str | None = None, *statuses: int) -> bool:
    """Whether a server answers at all, or with one of `statuses`."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return not statuses or answer.status in statuses
    except urllib.error.HTTPError as error:
        return not statuses or error.code in statuses
    except OSError:
        return False


def free_port(wanted: int) -> int:
    """`wanted` when nobody listens there, else a port that is free."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise QuickstartError("no free port on 127.0.0.1")


def port_of(url: str) -> str:
    return url.rsplit(":", 1)[1]


def step(text: str) -> None:
    print(f"\n{text}", flush=True)


def show(arguments: tuple[str | Path, ...] | list[str | Path]) -> None:
    shown = [os.path.relpath(part) if isinstance(part, Path) else part for part in arguments]
    print(f"  $ lmc {shlex.join(shown)}", flush=True)


def stop_like_ctrl_c(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(description="From nothing to a hub with a model on it, answering.")
    parser.add_argument("--exit", action="store_true", help="stop the servers at the end")
    parser.add_argument("--home", type=Path, default=ROOT / "quickstart", help="where everything is kept")
    parser.add_argument("--recipe", type=Path, default=ROOT / "recipes" / "quickstart.yaml")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, stop_like_ctrl_c)
    options.home.mkdir(parents=True, exist_ok=True)
    quickstart = Quickstart(options.home.resolve(), options.recipe.resolve())
    try:
        quickstart.run()
        if not options.exit:
            quickstart.stay_up()
    except (QuickstartError, urllib.error.URLError) as error:
        print(f"quickstart: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nquickstart: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    finally:
        quickstart.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
