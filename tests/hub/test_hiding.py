"""What moderators hid is reached by nobody in any way, nothing is lost by it, and it comes back whole."""

import hashlib
import secrets
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
from browser import Browser
from hub_process import HubProcess, free_port, lmc_hub
from huggingface_hub import CommitOperationAdd, HfApi
from test_attachments import png
from test_xet import opened
from web_page import Page

from lmcommons.hub.accounts.permissions import Actor
from lmcommons.hub.database.tables import ModerationCase, Repository, RepositoryType, now
from lmcommons.hub.errors import Conflict
from lmcommons.hub.operating.garbage import collect
from lmcommons.hub.rooms import Hub
from lmcommons.hub.words import translated

SECRET = b"what nobody should read"
LARGE = b"a large file that nobody should read"


@pytest.fixture(scope="module")
def rooms(hub: HubProcess) -> Iterator[Hub]:
    with hub.rooms() as opened:
        yield opened


@pytest.fixture(scope="module")
def operator(rooms: Hub) -> Actor:
    return rooms.tokens.actor(rooms.accounts.add_user(f"o{secrets.token_hex(4)}", admin=True))


@pytest.fixture(scope="module")
def author(hub: HubProcess) -> HfApi:
    """Who proposes what is hidden."""
    return HfApi(hub.endpoint, token=hub.add_user(f"a{secrets.token_hex(4)}"))


def stored(rooms: Hub, name: str) -> Repository:
    return next(each for each in rooms.repositories.all() if each.full_name == name)


def hide(rooms: Hub, operator: Actor, repository: Repository, **what: int) -> ModerationCase:
    case = rooms.reports.report(operator, repository, "bad", **what)
    return rooms.moderation.decide(operator, case.id, hide=True, note="bad")


@dataclass
class Proposal:
    """A pull request that adds `secret.txt` and `large.bin`; its commit, and one that it was at before."""

    repo: str
    number: int
    commit: str
    former: str

    @property
    def ref(self) -> str:
        return f"refs/pr/{self.number}"


@pytest.fixture
def proposal(api: HfApi, author: HfApi, new_repository: Callable[..., str]) -> Proposal:
    repo = new_repository()
    api.create_commit(repo, [CommitOperationAdd("kept.txt", b"kept")], commit_message="Add")
    files = [CommitOperationAdd("secret.txt", SECRET), CommitOperationAdd("large.bin", LARGE)]
    made = author.create_commit(repo, files, commit_message="Propose", create_pr=True)
    number = int(made.pr_num or 0)
    api.super_squash_history(repo, branch=f"refs/pr/{number}", commit_message="Squashed")
    return Proposal(repo, number, author.list_repo_commits(repo, revision=f"refs/pr/{number}")[0].commit_id, made.oid)


def git(*arguments: object, where: Path) -> "subprocess.CompletedProcess[str]":
    command = ["git", "-c", "protocol.version=2", *map(str, arguments)]
    return subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)


def answers(api: HfApi, proposal: Proposal, where: Path) -> dict[str, bool]:
    """Each way to the files of a pull request, and whether it leads there, for who has the token of `api`."""
    repo, number, sha256 = proposal.repo, proposal.number, hashlib.sha256(LARGE).hexdigest()
    headers = {"Authorization": f"Bearer {api.token}"}
    found = {}
    with httpx.Client(base_url=api.endpoint, headers=headers, follow_redirects=True) as client:
        for revision in (f"refs%2Fpr%2F{number}", proposal.commit, proposal.commit[:8], proposal.former):
            for path in (
                f"/{repo}/resolve/{revision}/secret.txt",
                f"/{repo}/resolve/{revision}/large.bin",
                f"/{repo}/tree/{revision}",
                f"/{repo}/blob/{revision}/secret.txt",
                f"/{repo}/commits/{revision}",
                f"/api/models/{repo}/revision/{revision}",
                f"/api/models/{repo}/tree/{revision}",
                f"/api/models/{repo}/commits/{revision}",
                f"/{repo}/compare/main..{revision}",
            ):
                found[path] = client.get(path).status_code == 200
        found["commit page"] = client.get(f"/{repo}/commit/{proposal.commit}").status_code == 200
        found["pull request"] = client.get(f"/{repo}/discussions/{number}").status_code == 200
        refs = client.get(f"/api/models/{repo}/refs?include_prs=1").json()
        found["list of refs"] = any(ref["ref"] == proposal.ref for ref in refs["pullRequests"])
        listed = client.get(f"/api/models/{repo}/lfs-files")
        found["list of large files"] = sha256 in listed.text
        body = {"operation": "download", "transfers": ["basic"], "objects": [{"oid": sha256, "size": len(LARGE)}]}
        batch = client.post(f"/{repo}.git/info/lfs/objects/batch", json=body).json()
        found["large file by its sha256"] = "actions" in batch["objects"][0]
    url = f"{api.endpoint.replace('://', f'://x:{api.token}@')}/{repo}"
    found["ls-remote"] = proposal.ref in git("ls-remote", url, where=where).stdout
    for wanted in (proposal.ref, proposal.commit, proposal.former, blob_id(SECRET)):
        for protocol in (0, 2):
            clone = where / secrets.token_hex(4)
            git("init", "-q", clone, where=where)
            fetched = git("-c", f"protocol.version={protocol}", "fetch", "-q", url, wanted, where=clone)
            found[f"git fetch of {wanted}, protocol {protocol}"] = fetched.returncode == 0
    return found


def blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0%s" % (len(content), content)).hexdigest()


def test_a_hidden_pull_request_is_reached_in_no_way_and_comes_back_whole(
    hub: HubProcess, rooms: Hub, operator: Actor, api: HfApi, author: HfApi, proposal: Proposal, tmp_path: Path
):
    before = answers(api, proposal, tmp_path)
    assert all(before.values()), [way for way, leads in before.items() if not leads]
    repository = stored(rooms, proposal.repo)
    case = hide(rooms, operator, repository, number=proposal.number)
    for who in (api, author):  # the owner of the repository, and the author
        meanwhile = answers(who, proposal, tmp_path)
        assert not any(meanwhile.values()), [way for way, leads in meanwhile.items() if leads]
    url = f"{api.endpoint.replace('://', f'://x:{api.token}@')}/{proposal.repo}"
    assert git("clone", "-q", url, "clone", where=tmp_path).returncode == 0
    assert SECRET.decode() in (rooms.moderation.proposed(operator, case) or "")
    collect(rooms, now())
    assert hub.command("fsck") == ""
    rooms.moderation.restore(operator, case.id, note="fine")
    after = answers(api, proposal, tmp_path)
    former = [way for way in after if proposal.former in way]
    assert all(after.values()), [way for way, leads in after.items() if not leads]
    assert former
    assert rooms.moderation.proposed(operator, case) is None


def test_a_copy_of_the_repository_does_not_have_what_is_hidden(
    rooms: Hub, operator: Actor, api: HfApi, proposal: Proposal, tmp_path: Path
):
    api.create_tag(proposal.repo, tag="v1", tag_message="one")
    hide(rooms, operator, stored(rooms, proposal.repo), number=proposal.number)
    owner, name = rooms.tokens.actor(api.token), f"r{secrets.token_hex(6)}"
    copy = rooms.commits.duplicate(owner, stored(rooms, proposal.repo), None, name)
    found = answers(api, replace(proposal, repo=copy.full_name), tmp_path)
    assert not any(found.values()), [way for way, leads in found.items() if leads]
    assert httpx.get(f"{api.endpoint}/{copy.full_name}/resolve/v1/kept.txt").content == b"kept"
    assert rooms.repositories.git(copy).check() == []


def test_administrators_read_on_the_page_of_the_case_what_a_hidden_pull_request_proposes(
    hub: HubProcess, rooms: Hub, operator: Actor, proposal: Proposal
):
    rooms.sign_in.set_password(operator.name or "", "correct horse battery")
    browser = Browser(hub)
    browser.sign_in(operator.name or "", "correct horse battery")
    case = hide(rooms, operator, stored(rooms, proposal.repo), number=proposal.number)
    page = Page(browser.get(f"/operator/reports/{case.id}").text)
    assert page.problems == []
    assert f"+{SECRET.decode()}" in page.text


def test_a_hub_made_of_a_backup_hides_the_same(
    hub: HubProcess, rooms: Hub, operator: Actor, api: HfApi, proposal: Proposal, tmp_path: Path
):
    case = hide(rooms, operator, stored(rooms, proposal.repo), number=proposal.number)
    hub.command("backup", "--out", str(tmp_path / "backup"))
    other = HubProcess(tmp_path / "restored", free_port())
    assert lmc_hub("restore", "--from", tmp_path / "backup", "--data", other.data).returncode == 0
    other.start()
    try:
        assert not any(answers(HfApi(other.endpoint, token=api.token), proposal, tmp_path).values())
        with other.rooms() as opened:
            opened.moderation.restore(operator, case.id, note="")
        assert all(answers(HfApi(other.endpoint, token=api.token), proposal, tmp_path).values())
    finally:
        other.kill()


def test_what_a_branch_has_too_stays_readable(
    rooms: Hub, operator: Actor, api: HfApi, proposal: Proposal, tmp_path: Path
):
    """A writer who takes the commits into a branch answers for them."""
    api.create_branch(proposal.repo, branch="taken", revision=proposal.ref)
    hide(rooms, operator, stored(rooms, proposal.repo), number=proposal.number)
    found = answers(api, proposal, tmp_path)
    assert all(leads for way, leads in found.items() if proposal.commit[:8] in way)
    assert found["large file by its sha256"]
    assert not found["ls-remote"]
    assert not found[f"/{proposal.repo}/resolve/refs%2Fpr%2F{proposal.number}/secret.txt"]


def test_deciding_again_completes_what_a_killed_process_began(
    rooms: Hub, operator: Actor, api: HfApi, proposal: Proposal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """The commits moved, the decision was not stored."""
    repository = stored(rooms, proposal.repo)
    case = rooms.reports.report(operator, repository, "bad", number=proposal.number)
    with monkeypatch.context() as patch:
        patch.setattr("lmcommons.hub.community.moderation._tell", _die)
        with pytest.raises(KeyboardInterrupt):
            rooms.moderation.decide(operator, case.id, hide=True, note="bad")
    assert rooms.moderation.find(operator, case.id).status == "open"
    assert not answers(api, proposal, tmp_path)["ls-remote"]
    rooms.moderation.decide(operator, case.id, hide=True, note="bad")
    assert not any(answers(api, proposal, tmp_path).values())
    rooms.moderation.restore(operator, case.id, note="")
    assert all(answers(api, proposal, tmp_path).values())


def _die(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_hidden_pull_request_takes_no_commits(
    rooms: Hub, operator: Actor, author: HfApi, proposal: Proposal, tmp_path: Path
):
    hide(rooms, operator, stored(rooms, proposal.repo), number=proposal.number)
    with pytest.raises(Exception, match=r"404|Revision Not Found"):
        author.create_commit(proposal.repo, [CommitOperationAdd("x", b"x")], commit_message="x", revision=proposal.ref)


def test_a_large_file_that_is_uploaded_anew_is_no_longer_withheld(
    rooms: Hub, operator: Actor, api: HfApi, proposal: Proposal
):
    hide(rooms, operator, stored(rooms, proposal.repo), number=proposal.number)
    api.create_commit(proposal.repo, [CommitOperationAdd("mine.bin", LARGE)], commit_message="I had it too")
    answer = httpx.get(f"{api.endpoint}/{proposal.repo}/resolve/main/mine.bin", follow_redirects=True)
    assert answer.content == LARGE


# ---------------------------------------------------------------- addresses that were given out before


def given(hub: HubProcess, repo: str, content: bytes, xet_hash: str, token: str | None) -> dict[str, httpx.Request]:
    """What fetches a large file without a token, as the hub says it to who has this one: by LFS, and its xorb."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    wanted = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content)}
    batch = {"operation": "download", "transfers": ["basic"], "objects": [wanted]}
    answer = httpx.post(f"{hub.endpoint}/{repo}.git/info/lfs/objects/batch", json=batch, headers=headers).json()
    by_lfs = answer["objects"][0]["actions"]["download"]["href"]
    file = opened(hub, token, repo, "read").get(f"/v1/reconstructions/{xet_hash}").json()
    ((fetch,),) = file["fetch_info"].values()
    stretch = {"Range": f"bytes={fetch['url_range']['start']}-{fetch['url_range']['end']}"}
    return {"lfs": httpx.Request("GET", by_lfs), "xet": httpx.Request("GET", fetch["url"], headers=stretch)}


@pytest.mark.embedded("a bucket gives what its addresses are for until they have expired: test_s3.py")
def test_addresses_hold_as_long_as_who_asked_may_read(
    hub: HubProcess, rooms: Hub, operator: Actor, author: HfApi, new_repository: Callable[..., str], api: HfApi
):
    repo, content = new_repository(), secrets.token_bytes(30_000)
    repository, owner = stored(rooms, repo), rooms.tokens.actor(api.token)
    file = opened(hub, str(api.token), repo, "write").upload(content)
    tokens = {"nobody": None, "a reader": str(author.token), "the owner": str(api.token)}
    addresses = {who: given(hub, repo, content, file.hash, token) for who, token in tokens.items()}
    everybody = {(who, way) for who in tokens for way in ("lfs", "xet")}
    the_owner = {(who, way) for who, way in everybody if who == "the owner"}

    def served() -> set[tuple[str, str]]:
        with httpx.Client() as client:
            ways = [(who, way, request) for who, asked in addresses.items() for way, request in asked.items()]
            return {(who, way) for who, way, request in ways if client.send(request).is_success}

    assert served() == everybody
    case = hide(rooms, operator, repository)
    assert served() == the_owner
    rooms.moderation.restore(operator, case.id, note="")
    assert served() == everybody
    api.update_repo_settings(repo, gated="manual")
    assert served() == the_owner
    rooms.access.grant(owner, stored(rooms, repo), str(rooms.tokens.actor(author.token).name))
    assert served() == {(who, way) for who, way in everybody if who != "nobody"}
    api.update_repo_settings(repo, visibility="private")
    assert served() == the_owner
    rooms.large_files.remove(owner, repository, [hashlib.sha256(content).hexdigest()], rewrite_history=False)
    assert served() == set()
    opened(hub, str(api.token), repo, "write").upload(content)
    assert served() == the_owner
    api.delete_repo(repo)
    assert served() == set()


def test_addresses_of_a_hidden_pull_request_end(
    hub: HubProcess, rooms: Hub, operator: Actor, api: HfApi, proposal: Proposal
):
    wanted = {"oid": hashlib.sha256(LARGE).hexdigest(), "size": len(LARGE)}
    batch = {"operation": "download", "transfers": ["basic"], "objects": [wanted]}
    answer = httpx.post(f"{hub.endpoint}/{proposal.repo}.git/info/lfs/objects/batch", json=batch).json()
    address = answer["objects"][0]["actions"]["download"]["href"]
    assert httpx.get(address, follow_redirects=True).content == LARGE
    case = hide(rooms, operator, stored(rooms, proposal.repo), number=proposal.number)
    assert httpx.get(address).status_code == 404
    rooms.moderation.restore(operator, case.id, note="")
    assert httpx.get(address, follow_redirects=True).content == LARGE


def test_addresses_end_with_the_token_that_they_were_asked_for_with(
    hub: HubProcess, rooms: Hub, api: HfApi, new_repository: Callable[..., str]
):
    repo, content = new_repository(private=True), secrets.token_bytes(30_000)
    file = opened(hub, str(api.token), repo, "write").upload(content)
    token = hub.add_token("ann", "read")
    asked = given(hub, repo, content, file.hash, token)
    with httpx.Client(follow_redirects=True) as client:
        assert all(client.send(each).is_success for each in asked.values())
        rooms.tokens.revoke("ann", max(each.id for each in rooms.tokens.of("ann")))
        refused = {way for way, each in asked.items() if client.send(each).status_code == 401}
    assert refused >= {"lfs"}


# ---------------------------------------------------------------- attachments


@pytest.fixture
def picture(author: HfApi, tmp_path: Path) -> str:
    """The address of a new attachment."""
    path = tmp_path / "picture.png"
    path.write_bytes(png(secrets.token_bytes(9)))
    return author.upload_attachment(path)


def is_served(address: str) -> bool:
    return httpx.get(address).status_code == 200


def say(api: HfApi, repo: str, text: str) -> tuple[int, int]:
    """The numbers of a new discussion and of the line in it that has the text."""
    made = api.create_discussion(repo, title="A title", description=text)
    return made.num, int(made.events[0].id, 16)


@pytest.mark.parametrize("whole", [True, False])
def test_a_picture_goes_with_the_comment_or_discussion_and_comes_back(
    rooms: Hub, operator: Actor, author: HfApi, new_repository: Callable[..., str], picture: str, whole: bool
):
    repo = new_repository()
    number, line = say(author, repo, f"look: ![x]({picture})")
    what = {"number": number} if whole else {"number": number, "comment": line}
    case = hide(rooms, operator, stored(rooms, repo), **what)
    assert not is_served(picture)
    rooms.moderation.restore(operator, case.id, note="")
    assert is_served(picture)


def test_a_picture_goes_with_the_repository(
    rooms: Hub, operator: Actor, author: HfApi, new_repository: Callable[..., str], picture: str
):
    repo = new_repository()
    say(author, repo, picture)
    case = hide(rooms, operator, stored(rooms, repo))
    assert not is_served(picture)
    rooms.moderation.restore(operator, case.id, note="")
    assert is_served(picture)


def test_a_picture_that_another_text_has_stays_until_that_goes_too(
    rooms: Hub, operator: Actor, author: HfApi, api: HfApi, new_repository: Callable[..., str], picture: str
):
    repo = new_repository()
    (first, one), (second, other) = say(author, repo, picture), say(api, repo, picture)
    repository = stored(rooms, repo)
    case = hide(rooms, operator, repository, number=first, comment=one)
    assert is_served(picture)
    hide(rooms, operator, repository, number=second, comment=other)
    assert not is_served(picture)
    rooms.moderation.restore(operator, case.id, note="")
    assert is_served(picture)


def test_a_withheld_picture_is_not_served_because_somebody_uploads_it_again(
    rooms: Hub, operator: Actor, author: HfApi, new_repository: Callable[..., str], picture: str, tmp_path: Path
):
    repo = new_repository()
    number, line = say(author, repo, picture)
    hide(rooms, operator, stored(rooms, repo), number=number, comment=line)
    assert author.upload_attachment(tmp_path / "picture.png") == picture
    assert not is_served(picture)


def test_a_picture_is_gone_when_the_last_text_with_it_is(
    author: HfApi, api: HfApi, new_repository: Callable[..., str], picture: str, tmp_path: Path
):
    repo = new_repository()
    number, line = say(author, repo, picture)
    author.hide_discussion_comment(repo, number, f"{line:024x}")
    assert not is_served(picture)
    assert author.upload_attachment(tmp_path / "picture.png") == picture
    assert is_served(picture)
    say(author, repo, picture)
    api.delete_repo(repo)
    assert not is_served(picture)


# ---------------------------------------------------------------- coming back under another name


def test_the_owner_of_a_hidden_repository_neither_moves_nor_copies_nor_deletes_it(
    rooms: Hub, operator: Actor, api: HfApi, new_repository: Callable[..., str]
):
    repo = new_repository()
    repository = stored(rooms, repo)
    case = hide(rooms, operator, repository)
    owner = rooms.tokens.actor(api.token)
    for attempt in (
        lambda: rooms.repositories.move(owner, RepositoryType.MODEL, repo, f"{repo}-again"),
        lambda: rooms.repositories.delete(owner, RepositoryType.MODEL, repo),
        lambda: rooms.repositories.duplicate(owner, stored(rooms, repo), None, f"r{secrets.token_hex(4)}"),
        lambda: rooms.repositories.create(owner, RepositoryType.MODEL, None, repository.name),
    ):
        with pytest.raises(Conflict):
            attempt()
    rooms.moderation.restore(operator, case.id, note="")
    rooms.repositories.delete(owner, RepositoryType.MODEL, repo)


def reported(rooms: Hub, operator: Actor, repository: Repository) -> list[str]:
    """The reasons for which a repository was reported."""
    cases, _ = rooms.moderation.queue(operator, limit=1_000)
    return [report.reason for case in cases if case.name == repository.path for report in case.reports]


@pytest.mark.parametrize("files", [{"a.txt": b"the same"}, {"weights.bin": b"the same weights"}])
def test_hidden_files_that_come_back_under_another_name_are_reported_once(
    rooms: Hub, operator: Actor, hub: HubProcess, files: dict[str, bytes]
):
    owner = HfApi(hub.endpoint, token=hub.add_user(name := f"b{secrets.token_hex(4)}"))
    for repo in ("first", "second"):
        owner.create_repo(f"{name}/{repo}")
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    owner.create_commit(f"{name}/first", operations, commit_message="Add")
    case = hide(rooms, operator, stored(rooms, f"{name}/first"))
    again = [CommitOperationAdd(path, content) for path, content in files.items()]
    owner.create_commit(f"{name}/second", again, commit_message="Add")
    owner.create_branch(f"{name}/second", branch="dev")
    second = stored(rooms, f"{name}/second")
    assert reported(rooms, operator, second) == [f"It has the files of {name}/first, which is hidden."]
    assert not second.hidden
    rooms.moderation.restore(operator, case.id, note="")


def test_large_files_that_come_back_a_little_changed_are_reported(rooms: Hub, operator: Actor, hub: HubProcess):
    token = hub.add_user(name := f"d{secrets.token_hex(4)}")
    weights = secrets.token_bytes(300_000)
    changed, half = bytes([weights[0] ^ 1]) + weights[1:], weights[:150_000] + secrets.token_bytes(150_000)
    for repo, content in (("first", weights), ("second", changed), ("third", half)):
        HfApi(hub.endpoint, token=token).create_repo(f"{name}/{repo}")
        opened(hub, token, f"{name}/{repo}", "write").upload(content)
        add = [CommitOperationAdd("weights.bin", content), CommitOperationAdd("a.txt", repo.encode())]
        HfApi(hub.endpoint, token=token).create_commit(f"{name}/{repo}", add, commit_message="Add")
        if repo == "first":
            hide(rooms, operator, stored(rooms, f"{name}/first"))
    (reason,) = reported(rooms, operator, stored(rooms, f"{name}/second"))
    assert reason == f"Its large files are for the most part those of {name}/first, which is hidden."
    assert translated(reason, "zh") == f"它的大文件大部分与 {name}/first 的相同，而后者已被隐藏。"
    assert reported(rooms, operator, stored(rooms, f"{name}/third")) == []


def test_files_that_others_show_too_are_not_reported(rooms: Hub, operator: Actor, hub: HubProcess, api: HfApi):
    """A base model in a hidden repository makes nobody's other work suspicious."""
    base = [CommitOperationAdd("base.bin", secrets.token_bytes(50))]
    api.create_repo(shown := f"ann/r{secrets.token_hex(6)}")
    api.create_commit(shown, base, commit_message="Add")
    owner = HfApi(hub.endpoint, token=hub.add_user(name := f"c{secrets.token_hex(4)}"))
    for repo in ("first", "second"):
        owner.create_repo(f"{name}/{repo}")
    content = base[0].path_or_fileobj
    files = [CommitOperationAdd("base.bin", content), CommitOperationAdd("bad.txt", b"bad")]
    owner.create_commit(f"{name}/first", files, commit_message="Add")
    hide(rooms, operator, stored(rooms, f"{name}/first"))
    owner.create_commit(f"{name}/second", [CommitOperationAdd("base.bin", content)], commit_message="Add")
    assert reported(rooms, operator, stored(rooms, f"{name}/second")) == []
