"""Members of a hub with SSH, who use the ssh and git that everybody has."""

import os
import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path

from hub_process import HubProcess

OPTIONS = (
    *("-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none"),
    *("-o", "StrictHostKeyChecking=accept-new", "-o", "ConnectTimeout=20"),
)


def make_key(path: Path, *options: str) -> str:
    """A new key pair at `path`; returns the public half."""
    path.unlink(missing_ok=True)
    kind = options or ("-t", "ed25519")
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-C", f"me@{path.name}", "-f", path, *kind], check=True)
    return path.with_name(f"{path.name}.pub").read_text()


@dataclass
class Member:
    """A user of the hub whose key it knows, and a directory for the user's files."""

    hub: HubProcess
    ssh_port: int
    name: str
    token: str
    home: Path
    key_id: int = 0

    @classmethod
    def join(cls, hub: HubProcess, ssh_port: int, home: Path, *, known: bool = True) -> "Member":
        """A new user; `known`: with a key that the hub knows."""
        name = f"u{secrets.token_hex(4)}"
        home = home / name
        home.mkdir()
        member = cls(hub, ssh_port, name, hub.add_user(name), home)
        public = make_key(home / "key")
        if known:
            with hub.rooms() as rooms:
                member.key_id = rooms.keys.add(name, "", public).id
        return member

    @property
    def ssh_options(self) -> list[str]:
        known_hosts = f"UserKnownHostsFile={self.home / 'known_hosts'}"
        return [*OPTIONS, "-i", str(self.home / "key"), "-o", known_hosts, "-p", str(self.ssh_port)]

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_SSH_COMMAND": " ".join(["ssh", *self.ssh_options]),
            "GIT_AUTHOR_NAME": self.name,
            "GIT_AUTHOR_EMAIL": f"{self.name}@example.org",
            "GIT_COMMITTER_NAME": self.name,
            "GIT_COMMITTER_EMAIL": f"{self.name}@example.org",
        }

    def url(self, repo_id: str) -> str:
        return f"ssh://git@127.0.0.1:{self.ssh_port}/{repo_id}"

    def ssh(
        self, *command: str, options: tuple[str, ...] = (), typed: bytes = b""
    ) -> "subprocess.CompletedProcess[str]":
        """`ssh git@hub COMMAND`."""
        done = subprocess.run(
            ["ssh", *self.ssh_options, *options, "git@127.0.0.1", *command],
            input=typed,
            env=self.environment,
            capture_output=True,
            timeout=60,
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )

    def git(self, *arguments: str, where: str = "", fails: bool = False) -> str:
        """What git says, its errors too."""
        command = ["git", "-C", str(self.home / where), *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=120)
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    def clone(self, repo_id: str, *options: str, folder: str = "c") -> Path:
        self.git("clone", "--quiet", *options, self.url(repo_id), folder)
        return self.home / folder

    def commit(self, files: dict[str, bytes], folder: str = "c") -> str:
        """A commit of these files; returns its id."""
        for name, content in files.items():
            (self.home / folder / name).write_bytes(content)
        self.git("add", "--all", where=folder)
        self.git("commit", "--quiet", "-m", "change", where=folder)
        return self.git("rev-parse", "HEAD", where=folder).strip()
