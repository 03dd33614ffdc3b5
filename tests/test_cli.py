"""The edge of the command: one line and an exit code for every way to be wrong."""

import re

import pytest
from tiny_run import lmc

from lmcommons.cli.main import COMMANDS


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["bogus"], "No such command 'bogus'"),
        (["recipe", "bogus"], "No such command 'bogus'"),
        (["run"], "Missing argument 'RECIPE'"),
        (["run", "--nope", "x"], "No such option: --nope"),
        (["run", "absent.yaml"], "absent.yaml: no such recipe file"),
        (["run", "/"], "/: cannot be read: Is a directory"),
        (["generate", "no-such-directory", "--prompt", "a"], "no-such-directory"),
        (["serve", "no-such-directory", "--port", "0"], "no-such-directory"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_code_2(arguments, expected):
    done = lmc(*arguments, HF_ENDPOINT="")
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert expected in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_help_names_every_command():
    done = lmc("--help")
    assert done.returncode == 0
    for command in COMMANDS:
        assert re.search(rf"\b{command}\b", done.stdout)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    done = lmc(command, "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
