"""Git over SSH, with the ssh, git and git-lfs that everybody has."""

import asyncio
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncssh
import httpx
import pytest
import stack
from hub_process import PATIENCE, HubProcess, free_port, lmc_hub, start_hub
from huggingface_hub import CommitOperationAdd, HfApi
from hypothesis import given
from hypothesis import strategies as st
from open_rooms import open_rooms
from ssh_client import Member, make_key

from lmcommons.hub.accounts.limits import SIGN_IN_BY_ADDRESS, Limits
from lmcommons.hub.database.tables import RepositoryType
from lmcommons.hub.objects.location import Location
from lmcommons.hub.objects.s3 import OWNER, S3Blobs
from lmcommons.hub.repos import hidden
from lmcommons.hub.repos.push import packet, whole_packets
from lmcommons.hub.repos.transport import Turns
from lmcommons.hub.ssh.server import serving

pytestmark = pytest.mark.skipif(
    shutil.which("ssh") is None or shutil.which("ssh-keygen") is None,
    reason="ssh is not installed: apt-get install openssh-client",
)
needs_lfs = pytest.mark.skipif(
    shutil.which("git-lfs") is None, reason="git-lfs is not installed: apt-get install git-lfs"
)
STALL = 3  # seconds
ZERO = b"0" * 40


@pytest.fixture(scope="module")
def ssh_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, ssh_port: int) -> Iterator[HubProcess]:
    with start_hub(tmp_path_factory.mktemp("ssh") / "hub", "--ssh-port", str(ssh_port)) as running:
        yield running


@pytest.fixture(scope="module")
def join(hub: HubProcess, ssh_port: int, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Member]:
    """Makes a member of the hub: `join(known=True)`."""
    home = tmp_path_factory.mktemp("members")
    return lambda **more: Member.join(hub, ssh_port, home, **more)


@pytest.fixture
def ada(join: Callable[..., Member]) -> Member:
    return join()


@pytest.fixture(scope="module")
def hurried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    """A member of a hub that has little patience."""
    home, port = tmp_path_factory.mktemp("hurried"), free_port()
    with start_hub(home / "hub", "--ssh-port", str(port), "--stall-limit", str(STALL)) as running:
        yield Member.join(running, port, home)


def api(member: Member) -> HfApi:
    return HfApi(member.hub.endpoint, token=member.token)


def repository(member: Member, name: str = "m", **more: object) -> str:
    return api(member).create_repo(f"{member.name}/{name}", **more).repo_id


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def fetching(hub: HubProcess) -> set[str]:
    """The processes by which the hub answers fetches."""
    found = set()
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (directory / "cmdline").read_bytes().split(b"\0")
            if b"upload-pack" in words and any(str(hub.data).encode() in word for word in words):
                found.add(directory.name)
    return found


def connect(member: Member) -> Any:
    """A connection by a library, for what git itself would not do."""
    options = {"username": "git", "client_keys": [str(member.home / "key")], "known_hosts": None, "config": None}
    return asyncssh.connect("127.0.0.1", member.ssh_port, **options)


def packed(member: Member, before: str, after: str) -> tuple[bytes, bytes]:
    """The commands and the pack of a push to `main`."""
    done = subprocess.run(
        ["git", "-C", member.home / "c", "pack-objects", "--stdout", "--revs", "--quiet"],
        input=f"{after}\n^{before}\n".encode(),
        capture_output=True,
        check=True,
    )
    return packet(f"{before} {after} refs/heads/main\0report-status".encode()) + b"0000", done.stdout


# ---------------------------------------------------------------- clone, fetch, push


def test_a_key_says_hello_and_opens_no_shell(hub: HubProcess, ada: Member):
    hello = ada.ssh()
    assert (hello.returncode, hello.stdout) == (0, f"Hi {ada.name}. This hub runs git over SSH, and no shell.\n")
    for command in ("ls -l", "git-lfs-transfer x upload", "'", "git-upload-pack", "git-receive-pack"):
        refused = ada.ssh(command)
        assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)
    with hub.rooms() as rooms:
        assert [key.last_used_at is not None for key in rooms.keys.of(ada.name)] == [True]


@pytest.mark.parametrize("protocol", ["0", "1", "2"])
@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_a_repository_is_cloned_changed_and_pushed(ada: Member, kind: str, protocol: str):
    repo_id = repository(ada, repo_type=kind)
    address = f"datasets/{repo_id}.git" if kind == "dataset" else repo_id
    ada.git("config", "--global", "protocol.version", protocol)
    ada.clone(address)
    commit = ada.commit({"a.txt": b"one\n"})
    ada.git("push", "--quiet", "origin", "HEAD", "HEAD:refs/heads/side", where="c")
    assert api(ada).repo_info(repo_id, repo_type=kind, revision="side").sha == commit
    ada.git("fetch", "--quiet", "origin", where="c")
    ada.clone(address, "--depth=1", folder="again")
    assert (ada.home / "again/a.txt").read_text() == "one\n"
    ada.git("push", "--quiet", "origin", ":side", where="c")
    assert [branch.name for branch in api(ada).list_repo_refs(repo_id, repo_type=kind).branches] == ["main"]
    ada.git("fsck", "--strict", where="again")


def test_a_push_that_may_not_be_is_refused_with_the_reason(ada: Member):
    repo_id = repository(ada)
    ada.clone(repo_id)
    before = api(ada).model_info(repo_id).sha
    ada.commit({"large.txt": os.urandom(12 << 20)})
    assert "large.txt has 12,582,912 bytes" in ada.git("push", "origin", "HEAD", where="c", fails=True)
    assert "only branches, tags" in ada.git("push", "origin", "HEAD:refs/other/x", where="c", fails=True)
    assert api(ada).model_info(repo_id).sha == before


def test_permissions_are_those_of_the_account(join: Callable[..., Member]):
    ada, ben = join(), join()
    secret, open_, gated = repository(ada, "s", private=True), repository(ada, "o"), repository(ada, "g")
    api(ada).update_repo_settings(gated, gated="auto")
    ada.clone(secret, folder="secret")
    for address in (secret, f"{ada.name}/none", "none", "/", "a/b/c"):
        assert "Repository not found" in ben.git("clone", ben.url(address), fails=True)
    assert "restricted" in ben.git("clone", ben.url(gated), fails=True)
    ben.clone(open_)
    ben.commit({"a.txt": b"mine"})
    assert "may not write" in ben.git("push", "origin", "HEAD", where="c", fails=True)
    api(ada).move_repo(open_, f"{ada.name}/moved")
    assert f"{open_} is now {ada.name}/moved" in ben.git("fetch", where="c", fails=True)


def test_authors_push_to_their_pull_requests(join: Callable[..., Member]):
    ada, ben = join(), join()
    repo_id = repository(ada)
    proposal = api(ben).create_pull_request(repo_id, title="Better")
    ben.clone(repo_id)
    ben.git("fetch", "--quiet", "origin", f"refs/pr/{proposal.num}", where="c")
    ben.git("reset", "--quiet", "--hard", "FETCH_HEAD", where="c")
    commit = ben.commit({"a.txt": b"better"})
    ben.git("push", "--quiet", "origin", f"HEAD:refs/pr/{proposal.num}", where="c")
    assert api(ada).model_info(repo_id, revision=f"refs/pr/{proposal.num}").sha == commit


def test_what_moderators_hid_is_not_given_by_its_id(hub: HubProcess, join: Callable[..., Member]):
    ada = join()
    repo_id = repository(ada)
    odd = [CommitOperationAdd("odd.txt", b"odd")]
    proposal = api(ada).create_commit(repo_id, odd, commit_message="Odd", create_pr=True)
    number, commit = int(proposal.pr_num or 0), proposal.oid
    with hub.rooms() as rooms:
        found = rooms.repositories.find(rooms.tokens.actor(ada.token), RepositoryType.MODEL, repo_id)
        git = rooms.repositories.git(found)
        with git.naming_objects():
            refused = git.move_refs(hidden.hiding(git.path, number, []), git.path / "objects/pack", atomic=True)
        assert not any(refused.values())
    for protocol in ("0", "2"):
        ada.git("init", "--quiet", f"p{protocol}")
        said = ada.git(
            "-c", f"protocol.version={protocol}", "fetch", ada.url(repo_id), commit, where=f"p{protocol}", fails=True
        )
        assert commit in said
        assert "no such branch" in said or "not our ref" in said or "unadvertised" in said


# ---------------------------------------------------------------- large files


@needs_lfs
def test_large_files_come_and_go_by_git_lfs(ada: Member, join: Callable[..., Member]):
    repo_id = repository(ada, private=True)
    ada.git("lfs", "install", "--skip-repo")
    ada.clone(repo_id)
    weights = os.urandom(3_000_000)
    ada.commit({"weights.bin": weights})
    ada.git("lfs", "lock", "weights.bin", where="c")
    ada.git("push", "origin", "HEAD", where="c")
    ada.clone(repo_id, folder="again")
    assert (ada.home / "again/weights.bin").read_bytes() == weights
    assert f"{join().ssh(f'git-lfs-authenticate {repo_id} download').stderr}".endswith("Repository not found\n")


def test_what_signs_git_lfs_in_is_for_one_repository_and_ends_with_the_key(hub: HubProcess, ada: Member):
    repo_id, other = repository(ada, private=True), repository(ada, "other", private=True)
    assert ada.ssh(f"git-lfs-authenticate {repo_id} delete").returncode == 1
    answers = {right: ada.ssh(f"git-lfs-authenticate {repo_id} {right}").stdout for right in ("download", "upload")}
    headers = {right: httpx.Response(200, text=text).json()["header"] for right, text in answers.items()}
    batch = {"operation": "upload", "objects": [{"oid": "0" * 64, "size": 1}]}

    def status(right: str, repo: str, operation: str) -> int:
        url = f"{hub.endpoint}/{repo}.git/info/lfs/objects/batch"
        return httpx.post(url, json=batch | {"operation": operation}, headers=headers[right]).status_code

    assert [status("upload", repo_id, operation) for operation in ("upload", "download")] == [200, 200]
    assert [status("download", repo_id, operation) for operation in ("upload", "download")] == [403, 200]
    assert [status(right, other, "download") for right in headers] == [404, 404]
    forged = {"Authorization": headers["download"]["Authorization"].replace(".read.", ".write.")}
    assert httpx.get(f"{hub.endpoint}/api/whoami-v2", headers=forged).status_code == 401
    url = f"{hub.endpoint}/{repo_id}.git/info/lfs/objects/batch"
    answer = httpx.post(url, json=batch, headers=headers["upload"]).json()
    verify = answer["objects"][0]["actions"]["verify"]["href"]
    assert httpx.post(verify, json={}).status_code == 404
    with hub.rooms() as rooms:
        rooms.keys.remove(ada.name, ada.key_id)
    assert status("download", repo_id, "download") == 401
    assert httpx.post(verify, json={}).status_code == 401


def test_a_push_waits_for_what_git_does_before_it(hurried: Member):
    repo_id = repository(hurried, "late")
    work = hurried.clone(repo_id)
    hook = work / ".git/hooks/pre-push"
    hook.write_text(f"#!/bin/sh\nsleep {STALL + 1}\n")
    hook.chmod(0o755)
    commit = hurried.commit({"a.txt": b"late"})
    hurried.git("push", "--quiet", "origin", "HEAD", where="c")
    assert api(hurried).model_info(repo_id).sha == commit


# ---------------------------------------------------------------- who comes in


def test_nobody_comes_in_without_a_key_that_is_known(hub: HubProcess, join: Callable[..., Member]):
    stranger = join(known=False)
    refused = stranger.ssh(options=("-o", "BatchMode=no", "-o", "NumberOfPasswordPrompts=1"))
    assert refused.returncode == 255
    assert "Permission denied (publickey)." in refused.stderr  # neither a password nor a dialogue is offered
    with hub.rooms() as rooms:
        rooms.keys.add(stranger.name, "", (stranger.home / "key.pub").read_text())
    assert stranger.ssh().returncode == 0
    hub.command("user", "disable", stranger.name)
    assert stranger.ssh().returncode == 255


def test_a_removed_key_is_cut_off_on_a_connection_that_is_open(hub: HubProcess, ada: Member, tmp_path: Path):
    shared = ("-o", f"ControlPath={tmp_path / 's'}")
    master = subprocess.Popen(
        ["ssh", *ada.ssh_options, *shared, "-M", "-N", "git@127.0.0.1"], env=ada.environment, stderr=subprocess.DEVNULL
    )
    try:
        wait_for((tmp_path / "s").exists, "no connection")
        assert ada.ssh(options=shared).returncode == 0
        with hub.rooms() as rooms:
            rooms.keys.remove(ada.name, ada.key_id)
        refused = ada.ssh(options=shared)
        assert refused.returncode == 1
        assert "does not know the key" in refused.stderr
        assert ada.ssh().returncode == 255
    finally:
        master.kill()


@pytest.mark.parametrize(
    "kind", [("-t", "rsa", "-b", "3072"), ("-t", "ecdsa", "-b", "256"), ("-t", "ecdsa", "-b", "384")]
)
def test_other_kinds_of_keys_sign_in(hub: HubProcess, ada: Member, kind: tuple[str, ...]):
    public = make_key(ada.home / "key", *kind)
    with hub.rooms() as rooms:
        rooms.keys.add(ada.name, "", public)
    assert ada.ssh().returncode == 0


def test_nothing_but_commands_is_given(ada: Member):
    async def ask() -> None:
        async with connect(ada) as connection:
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.open_connection("127.0.0.1", 22)
            with pytest.raises(asyncssh.ChannelListenError):
                await connection.forward_remote_port("", 0, "127.0.0.1", 22)
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.run("ls", term_type="xterm", check=True)
            with pytest.raises((asyncssh.Error, OSError)):
                await connection.start_sftp_client()

    asyncio.run(ask())


def test_strangers_who_try_too_often_wait_and_members_do_not(tmp_path: Path):
    hub = open_rooms(tmp_path / "hub")
    hub.limits = Limits(0, clock=lambda: 0.0)  # one window for all of it
    hub.accounts.add_user("ada")
    known, wrong = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    hub.keys.add("ada", "laptop", known.export_public_key().decode())
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    async def knock(key: asyncssh.SSHKey) -> None:
        options = {"username": "git", "client_keys": [key], "known_hosts": None, "config": None}
        async with asyncssh.connect("127.0.0.1", port, **options):
            pass

    async def try_keys() -> None:
        async with serving(hub, listener, Turns()):
            for _ in range(SIGN_IN_BY_ADDRESS):
                hub.limits.take_sign_in("127.0.0.1")
            await knock(known)  # which is no attempt
            with pytest.raises(asyncssh.PermissionDenied):
                await knock(wrong)
            said, deadline = "", time.monotonic() + PATIENCE
            while "More than 100 requests" not in said:  # the attempt counts once its connection has ended
                assert time.monotonic() < deadline, said
                with pytest.raises(asyncssh.DisconnectError) as refused:
                    await knock(wrong)
                said = refused.value.reason

    asyncio.run(try_keys())
    hub.close()


# ---------------------------------------------------------------- what goes wrong


def test_a_client_that_leaves_its_side_open_is_answered(ada: Member):
    """As libraries do, which end no pack by an end of their data."""
    repo_id = repository(ada)
    ada.clone(repo_id)
    before = ada.git("rev-parse", "HEAD", where="c").strip()
    after = ada.commit({"a.txt": b"one"})
    command, pack = packed(ada, before, after)

    async def send() -> bytes:
        async with connect(ada) as connection:
            process = await connection.create_process(f"git-receive-pack '{repo_id}'", encoding=None)
            process.stdin.write(command + pack[:-9])
            await asyncio.sleep(0.2)
            process.stdin.write(pack[-9:])
            return await process.stdout.read()

    assert b"ok refs/heads/main" in asyncio.run(asyncio.wait_for(send(), PATIENCE))
    assert api(ada).model_info(repo_id).sha == after


def test_a_client_that_says_nothing_more_is_cut_off(hurried: Member):
    repo_id = repository(hurried)
    begun = packet(ZERO + b" " + b"1" * 40 + b" refs/heads/x\0report-status") + b"0000PACK"

    async def lasts(command: str, sent: bytes) -> float:
        async with connect(hurried) as connection:
            start = time.monotonic()
            process = await connection.create_process(command, encoding=None)
            process.stdin.write(sent)
            await process.stdout.read()
            return time.monotonic() - start

    for command, sent in ((f"git-upload-pack {repo_id}", b""), (f"git-receive-pack {repo_id}", begun)):
        assert asyncio.run(asyncio.wait_for(lasts(command, sent), PATIENCE)) > STALL - 1
    assert hurried.ssh(options=("-N",)).returncode == 255  # it asks for nothing
    wait_for(lambda: not fetching(hurried.hub), "git still runs")


def test_requests_that_are_not_gits_are_refused_in_one_line(ada: Member):
    repo_id = repository(ada)
    for command, sent in (
        (f"git-upload-pack {repo_id}", b"zzzz no packet"),
        (f"git-receive-pack {repo_id}", b"zzzz no packet"),
        (f"git-receive-pack {repo_id}", packet(b"not a command") + b"0000"),
        (f"git-receive-pack {repo_id}", b"0010"),
    ):
        refused = ada.ssh(command, typed=sent)
        assert refused.returncode == 1
        assert "Traceback" not in refused.stderr
        assert "pkt-line" in refused.stderr or "push" in refused.stderr


def test_a_client_that_is_cut_off_in_the_middle_leaves_nothing(hub: HubProcess, ada: Member):
    repo_id = repository(ada)
    ada.clone(repo_id)
    before = ada.git("rev-parse", "HEAD", where="c").strip()
    after = ada.commit({f"{number}.txt": os.urandom(4 << 20) for number in range(4)})
    command, pack = packed(ada, before, after)

    async def push_half() -> None:
        async with connect(ada) as connection:
            process = await connection.create_process(f"git-receive-pack {repo_id}", encoding=None)
            process.stdin.write(command + pack[: len(pack) // 2])
            await process.stdin.drain()
            connection.abort()

    async def fetch_some() -> None:
        async with connect(ada) as connection:
            process = await connection.create_process(f"git-upload-pack {repo_id}", encoding=None)
            process.stdin.write(packet(f"want {after}".encode()) + b"0000" + packet(b"done"))
            await process.stdout.readexactly(1 << 20)
            assert fetching(hub)
            connection.abort()

    asyncio.run(push_half())
    time.sleep(0.5)
    assert api(ada).model_info(repo_id).sha == before
    ada.git("push", "--quiet", "origin", "HEAD", where="c")
    asyncio.run(fetch_some())
    wait_for(lambda: not fetching(hub), "git still runs")
    assert ada.clone(repo_id, folder="whole").joinpath("3.txt").stat().st_size == 4 << 20


def test_twenty_clients_clone_at_once(ada: Member):
    repo_id = repository(ada)
    ada.clone(repo_id)
    commit = ada.commit({"a.txt": os.urandom(1 << 20)})
    ada.git("push", "--quiet", "origin", "HEAD", where="c")
    with ThreadPoolExecutor(20) as pool:
        clones = list(pool.map(lambda number: ada.clone(repo_id, folder=f"n{number}"), range(20)))
    assert {ada.git("rev-parse", "HEAD", where=clone.name).strip() for clone in clones} == {commit}


# ---------------------------------------------------------------- the server


def test_workers_share_the_port_and_tell_clients_when_they_end(tmp_path: Path):
    port = free_port()
    with start_hub(tmp_path / "hub", "--ssh-port", str(port), "--workers", "2") as hub:
        ada = Member.join(hub, port, tmp_path)
        repo_id = repository(ada)
        with ThreadPoolExecutor(8) as pool:
            said = list(pool.map(lambda _: ada.git("ls-remote", "--quiet", ada.url(repo_id), "HEAD"), range(16)))
        assert all(f"{api(ada).model_info(repo_id).sha}\tHEAD" in line for line in said)
        shown = subprocess.run(["ssh-keygen", "-lf", ada.home / "known_hosts"], capture_output=True, text=True).stdout
        assert shown.split()[1] in hub.log.read_text()
        waiting = subprocess.Popen(
            ["ssh", *ada.ssh_options, "-v", "-N", "git@127.0.0.1"], env=ada.environment, stderr=subprocess.PIPE
        )
        assert waiting.stderr is not None
        assert any(b"Entering interactive session" in line for line in waiting.stderr)
        assert hub.stop() == 0
        assert b"The hub stops" in waiting.communicate(timeout=PATIENCE)[1]


def test_a_hub_that_lost_its_secret_has_another_host_key_which_clients_refuse_until_told(tmp_path: Path):
    port = free_port()
    hub = HubProcess(tmp_path / "hub", free_port(), ("--ssh-port", str(port)))
    ada = Member.join(hub, port, tmp_path)
    with hub.rooms() as rooms:
        actor = rooms.tokens.actor(ada.token)
        repo_id = rooms.commits.create_repository(actor, RepositoryType.MODEL, None, "m").full_name
        former = rooms.keys.host_key.export_public_key().decode()
    ada.home.joinpath("known_hosts").write_text(f"[127.0.0.1]:{port} {former}")
    hub.data.joinpath("secret").unlink()
    if stack.is_cluster():  # the bucket remembers whose it is
        with pytest.raises(RuntimeError, match="another hub keeps its objects there"):
            hub.start()
        S3Blobs(Location.parse(stack.objects_url(hub.data)), tmp_path / "blobs").delete(OWNER)
    with start_hub(hub.data, *hub.options):
        refused = ada.git("clone", ada.url(repo_id), "c", fails=True)
        assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in refused
        with hub.rooms() as rooms:
            present = rooms.keys.host_key.get_fingerprint()
        assert present in refused
        assert present in hub.log.read_text()
        known = ["-R", f"[127.0.0.1]:{port}", "-f", str(ada.home / "known_hosts")]
        subprocess.run(["ssh-keygen", *known], check=True, capture_output=True)
        ada.clone(repo_id)  # with the key that ada had before


def test_without_the_option_there_is_no_ssh_and_wrong_options_are_said(tmp_path: Path, ssh_port: int, hub: HubProcess):
    for options, line in (
        (("--ssh-url", "ssh://git@example.org"), "--ssh-port"),
        (("--ssh-port", "0", "--ssh-url", "http://example.org"), "ssh://git@HOST"),
        (("--ssh-port", str(ssh_port)), f"127.0.0.1:{ssh_port}"),
        (("--ssh-port", "0", "--ssh-host", "nowhere.invalid"), "--ssh-host nowhere.invalid"),
    ):
        done = lmc_hub("serve", "--data", tmp_path / "other", "--port", 0, *options)
        assert done.returncode in (1, 2)
        assert line in done.stderr
        assert done.stderr.count("\n") == 1


@given(lines=st.lists(st.binary(max_size=50), max_size=8), rest=st.binary(max_size=3))
def test_whole_packets_end_where_the_last_one_does(lines: list[bytes], rest: bytes):
    whole = b"".join(packet(line) for line in lines) + b"0000"
    cut = packet(b"more")[:-1]
    assert whole_packets(whole) == whole_packets(whole + cut) == len(whole)
    assert whole_packets(cut[: 3 - len(rest)]) == 0
