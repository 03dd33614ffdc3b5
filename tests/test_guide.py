"""The guides are true: their commands run, in order, as they stand there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hub_process import free_port

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("page", "shown"),
    [("guide.md", "pretraining: unchanged"), ("hub.md", '"rows"'), ("finetuning.md", "finetuning: unchanged")],
)
def test_every_command_of_the_guides_works(page: str, shown: str, tmp_path: Path):
    blocks = re.findall(r"```console\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.S)
    commands = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    assert len(commands) > 8
    ports = {"8000": str(free_port()), "8001": str(free_port())}
    script = ["set -eux", "trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT"]
    for command in commands:
        script.append(re.sub("|".join(ports), lambda found: ports[found[0]], command))
        if "hub serve" in command:
            script.append(
                "curl --silent --output /dev/null --retry 120 --retry-connrefused --retry-delay 1 "
                f"http://127.0.0.1:{ports['8000']}/api/whoami-v2"
            )
    (tmp_path / "recipes").symlink_to(DOCS.parent / "recipes")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HF_HOME": str(tmp_path / "cache"),
        "GIT_TERMINAL_PROMPT": "0",
    }
    for name in ("HF_TOKEN", "HF_HUB_DISABLE_XET"):
        environment.pop(name, None)
    with (tmp_path / "log").open("w+") as log:  # a file, not a pipe: servers in the background would hold a pipe open
        result = subprocess.run(
            ["bash", "-c", "\n".join(script)],
            cwd=tmp_path, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, check=False, timeout=840,
        )  # fmt: skip
        log.seek(0)
        said = log.read()
    assert result.returncode == 0, said[-4000:]
    assert shown in said
