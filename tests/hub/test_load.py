"""Many clients at once, for a short time: nobody gets an error or wrong bytes. benchmarks/hub.py does it for long."""

import json
import os
import subprocess
import sys
from pathlib import Path

from hub_process import start_hub

LOAD = Path(__file__).parents[2] / "benchmarks" / "hub_load.py"


def test_twenty_clients_get_right_bytes_and_no_error(tmp_path: Path):
    with start_hub(tmp_path / "hub") as hub:
        environment = os.environ | {"HF_TOKEN": hub.add_user("ada")}
        command = [sys.executable, LOAD, hub.endpoint, "--clients", "20", "--seconds", "5"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert (result["errors"], result["wrong_bytes"], result["limited"]) == ({}, 0, 0)
        assert result["requests"] >= 20
        assert "Traceback" not in hub.log.read_text()
        assert hub.command("fsck") == ""
