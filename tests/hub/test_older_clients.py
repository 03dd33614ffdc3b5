"""Older clients, unmodified: each does what people do with a hub, with Xet and without."""

import json
import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from hub_process import HubProcess

VERSIONS = ("1.20.0", "1.25.0")
SCRIPT = Path(__file__).with_name("older_client.py")
STEPS = re.findall(r"^@step\ndef (\w+)", SCRIPT.read_text(), re.MULTILINE)
INSTALL_LIMIT = 180  # seconds
RUN_LIMIT = 240
pytestmark = pytest.mark.timeout(600)  # the first test of a version waits for all of these


@pytest.fixture(scope="session", params=VERSIONS)
def interpreter(request: pytest.FixtureRequest) -> Path:
    """A Python with an older client, installed once and kept in pytest's cache; skips where no index is reached."""
    folder = (
        request.config.cache.mkdir("older_clients") / f"{request.param}-{sys.version_info[0]}.{sys.version_info[1]}"
    )
    python, complete = folder / "bin/python", folder / "complete"
    if not complete.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", folder], check=True, timeout=120)
        pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
        install = [*pip, "install", "--quiet", f"huggingface_hub=={request.param}"]
        try:
            done = subprocess.run(install, capture_output=True, text=True, timeout=INSTALL_LIMIT)
        except subprocess.TimeoutExpired:
            pytest.skip(f"pip needs more than {INSTALL_LIMIT} s to install huggingface_hub {request.param}")
        if done.returncode:
            pytest.skip(f"pip cannot install huggingface_hub {request.param}: {done.stderr.strip()[-200:]}")
        complete.touch()
    return python


@pytest.fixture(scope="session", params=["xet", "lfs"])
def outcome(
    request: pytest.FixtureRequest,
    interpreter: Path,
    hub: HubProcess,
    token: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, str]:
    """By step, what went wrong."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHON"))}
    environment |= {
        "HF_ENDPOINT": hub.endpoint,
        "HF_TOKEN": token,
        "HF_HOME": str(tmp_path_factory.mktemp("home")),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HUB_USER": "ann",
    }
    if request.param == "lfs":
        environment["HF_HUB_DISABLE_XET"] = "1"
    done = subprocess.run(
        [interpreter, SCRIPT, f"older-{secrets.token_hex(4)}"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=RUN_LIMIT,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("step", STEPS)
def test_an_older_client_works(outcome: dict[str, str], step: str):
    assert outcome[step] == ""
