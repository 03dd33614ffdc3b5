"""Every route, every kind of caller, every visibility: who gets in, and what the others are told.

The cells come from the application's own route table and the rules in `access_rules.py`.
"""

import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
from access_rules import FORMS, RULES, Rule
from hub_process import HubProcess
from starlette.routing import BaseRoute, Route

from lmcommons.hub.accounts.browser_sessions import COOKIE
from lmcommons.hub.accounts.permissions import Action
from lmcommons.hub.app import create_app
from lmcommons.hub.database.tables import TokenRole
from lmcommons.hub.settings import Settings

ORGANISATION = "matrix-org"
PASSWORD = "correct horse battery"
LOOK = {Action.SEE, Action.READ}
TALK = {*LOOK, Action.DISCUSS}
MEMBER = {*TALK, Action.CREATE}
ALL = set(Action) - {Action.ADMINISTER}

# What each caller may do to what the organisation owns, when it is public, gated and private.
MAY: dict[str, tuple[set[Action], set[Action], set[Action]]] = {
    "anonymous": (LOOK, {Action.SEE}, set()),
    "stranger": (TALK, {Action.SEE, Action.DISCUSS}, set()),
    "accepted": (TALK, TALK, set()),  # a stranger whose access request was accepted
    "reader": (TALK, TALK, TALK),
    "colleague": (MEMBER, MEMBER, MEMBER),  # a contributor, of what another one made
    "contributor": (ALL, ALL, ALL),  # who made it
    "writer": (ALL, ALL, ALL),
    "admin": (set(Action),) * 3,
    "operator": (set(Action),) * 3,  # an administrator of the hub
    "read token": (LOOK, LOOK, LOOK),  # of the writer
    "other scope": (LOOK, {Action.SEE}, set()),  # a fine-grained token of the writer, for something else
    "wrong token": (set(), set(), set()),
    "expired token": (set(), set(), set()),
}
VISIBILITIES = ("public", "gated", "private")
INVALID = ("wrong token", "expired token")
CANNOT_WRITE = ("read token", "other scope")
MEMBERS = {
    "reader": "read",
    "colleague": "contributor",
    "contributor": "contributor",
    "writer": "write",
    "admin": "admin",
}


@dataclass
class World:
    """A hub with an organisation, its repositories, buckets and collections, and everybody who comes to see them."""

    client: httpx.Client
    tokens: dict[str, str | None]
    cookies: dict[str, str] = field(default_factory=dict)
    slugs: dict[str, str] = field(default_factory=dict)  # of the collections, by visibility

    def headers(self, caller: str) -> dict[str, str]:
        token = self.tokens[caller]
        return {"Authorization": f"Bearer {token}"} if token else {}

    def send(self, method: str, address: str, **more: Any) -> httpx.Response:
        """The answer; of a stream that does not end, its beginning."""
        answer = self.client.send(self.client.build_request(method, address, **more), stream=True)
        if answer.headers.get("content-type", "").startswith("text/event-stream"):
            answer.close()
            answer._content = b""
        else:
            answer.read()
        return answer

    def make(self, caller: str, method: str, address: str, body: Any) -> Any:
        answer = self.client.request(method, address, json=body, headers=self.headers(caller))
        assert answer.is_success, answer.text
        return answer.json()


def routes() -> Iterator[tuple[str, Route]]:
    """All routes of the application as `METHOD path`."""
    with TemporaryDirectory() as directory:
        app = create_app(Settings.make(Path(directory) / "hub"))
        app.state.hub.close()
    for route in _flat(app.router.routes):
        assert isinstance(route, Route), route
        for method in sorted((route.methods or set()) - {"HEAD"}):
            yield f"{method} {route.path}", route


def _flat(found: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    for route in found:
        included = getattr(route, "original_router", None)
        yield from [route] if included is None else _flat(included.routes)


def key(name: str) -> str:
    """What a route is called among the rules: addresses of datasets and spaces follow the models'."""
    return re.sub(r" /(datasets|spaces)(?=/\{namespace\}/)", " ", name)


ROUTES = [name for name, route in routes() if not route.path.startswith("/static/")]


def test_every_route_has_a_rule_and_every_rule_a_route():
    known = {key(name) for name in ROUTES}
    assert known - RULES.keys() - FORMS == set(), "add these to tests/hub/access_rules.py"
    assert (RULES.keys() | FORMS) - known == set(), "these are gone"


@pytest.fixture(scope="module")
def world(hub: HubProcess) -> Iterator[World]:
    names = ["stranger", "accepted", *MEMBERS]
    tokens: dict[str, str | None] = {name: hub.add_user(f"matrix-{name}") for name in names}
    tokens["operator"] = hub.add_user("matrix-operator", "--admin")
    members = [option for name, role in MEMBERS.items() for option in ("--member", f"matrix-{name}:{role}")]
    hub.add_organisation(ORGANISATION, *members)
    cookies = {}
    with hub.rooms() as rooms:
        for name in (*names, "operator"):
            rooms.sign_in.set_password(f"matrix-{name}", PASSWORD)
            cookies[name] = rooms.sign_in.sign_in(f"matrix-{name}", PASSWORD)
        tokens["read token"] = rooms.tokens.add("matrix-writer", "reads", TokenRole.READ)
        tokens["expired token"] = rooms.tokens.add(
            "matrix-writer", "old", TokenRole.WRITE, life=timedelta(microseconds=1)
        )
        tokens["other scope"] = rooms.tokens.add(
            "matrix-writer", "scoped", TokenRole.FINE_GRAINED, scopes={"matrix-stranger": Action.MANAGE}
        )
    tokens |= {"anonymous": None, "wrong token": "hf_wrong"}
    with httpx.Client(base_url=hub.endpoint) as client:
        made = World(client, tokens, cookies)
        for visibility in VISIBILITIES:
            for kind in ("model", "dataset", "space"):
                _make_repository(made, visibility, kind, f"the-{visibility}")
            _make_bucket(made, visibility, f"the-{visibility}")
            made.slugs[visibility] = _make_collection(made, visibility, f"the {visibility}")
        for kind in ("model", "dataset"):
            made.make("contributor", "POST", f"/api/{kind}s/{ORGANISATION}/the-private/like", {})
            item = {"item": {"type": kind, "id": f"{ORGANISATION}/the-private"}}
            made.make("contributor", "POST", f"/api/collections/{ORGANISATION}/{made.slugs['public']}/items", item)
        yield made


def _make_repository(world: World, visibility: str, kind: str, name: str) -> None:
    full = f"{ORGANISATION}/{name}"
    body = {"name": name, "organization": ORGANISATION, "type": kind, "private": visibility == "private"}
    world.make("contributor", "POST", "/api/repos/create", body | ({"sdk": "static"} if kind == "space" else {}))
    base = f"/api/{kind}s/{full}"
    if visibility == "gated":
        world.make("contributor", "PUT", f"{base}/settings", {"gated": "auto"})
        world.make("contributor", "POST", f"{base}/user-access-request/grant", {"user": "matrix-accepted"})
    lines = ['{"key":"header","value":{"summary":"s"}}']
    lines += [
        f'{{"key":"file","value":{{"path":"{path}","content":"eA==","encoding":"base64"}}}}'
        for path in ("x.txt", "m.md")
    ]
    for branch in ("main", "side"):
        if branch != "main":
            world.make("contributor", "POST", f"{base}/branch/{branch}", {})
            continue
        answer = world.client.post(
            f"{base}/commit/{branch}", content="\n".join(lines), headers=world.headers("contributor")
        )
        assert answer.is_success, answer.text
    world.make("contributor", "POST", f"{base}/discussions", {"title": "t", "description": "d"})


def _make_bucket(world: World, visibility: str, name: str) -> None:
    world.make("contributor", "POST", f"/api/buckets/{ORGANISATION}/{name}", {"private": visibility == "private"})


def _make_collection(world: World, visibility: str, title: str) -> str:
    body = {"namespace": ORGANISATION, "title": title, "private": visibility == "private"}
    slug = world.make("contributor", "POST", "/api/collections", body)["slug"]
    return str(slug).partition("/")[2]


@dataclass(frozen=True)
class Asked:
    """A request for one cell, ready to be sent."""

    method: str
    address: str
    more: Mapping[str, Any]


def ask(name: str, rule: Rule, *, target: str, caller: str) -> Asked:
    """The request of a rule for what is called `target`."""
    method, _, path = name.partition(" ")
    values = dict.fromkeys(("namespace", "organisation"), ORGANISATION) | dict.fromkeys(("name", "slug"), target)
    values |= dict.fromkeys(("comment_id", "item_id", "webhook_id"), f"{9:024x}") | {"hash": "0" * 64, "path": "x.txt"}
    values |= {"kind": "models", "rest": "main", "revision": "main", "status": "pending", **rule.params}
    if "/users/" in path:
        values["name"] = "matrix-stranger"
    if "/organizations/" in path:
        values["name"] = ORGANISATION
    words = {
        "NEW": f"new{secrets.token_hex(5)}",
        "ORGANISATION": ORGANISATION,
        "REPOSITORY": f"{ORGANISATION}/{target}",
        "CALLER": {"anonymous": "matrix-stranger", "read token": "matrix-writer", "other scope": "matrix-writer"}.get(
            caller, f"matrix-{caller}"
        ),
    }

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {each: filled(inner) for each, inner in value.items()}
        return re.sub("|".join(words), lambda found: words[found[0]], value) if isinstance(value, str) else value

    address = re.sub(r"\{(\w+)(?::\w+)?\}", lambda found: filled(values.get(found[1], "1")), path)
    more: dict[str, Any] = {"params": rule.query}
    if rule.json is not None:
        more["json"] = filled(rule.json)
    if rule.content is not None:
        more |= {"content": rule.content, "headers": {"Content-Type": rule.media_type}}
    return Asked(method, address, more)


def expected(rule: Rule, caller: str, visibility: str) -> int | None:
    """The status that refuses the caller; None where the caller gets in."""
    nobody = caller == "anonymous"
    refusal = 401 if nobody else 403
    if rule.kind == "open":
        return None
    if caller in INVALID:
        return 401
    if rule.kind == "signed_in":
        return 401 if nobody else None
    if rule.kind == "admin":
        return None if caller == "operator" else refusal
    if rule.kind == "own":
        return refusal if nobody or caller in CANNOT_WRITE else None
    rights = MAY[caller][VISIBILITIES.index(visibility)]
    if rule.kind == "namespace":
        return None if rule.action in rights else refusal
    if rule.action is None:
        return None
    if Action.SEE not in rights:
        return rule.hidden if nobody else 404
    if rule.own and (nobody or caller in CANNOT_WRITE):
        return refusal
    return None if rule.action in rights else refusal


def visibilities(rule: Rule) -> tuple[str, ...]:
    """Only repositories can be gated, and what is not one thing of the organisation has no visibility."""
    if rule.kind in ("repository", "page") and rule.action is not None:
        return VISIBILITIES
    return ("public", "private") if rule.kind in ("bucket", "collection") else ("public",)


def callers(name: str, rule: Rule) -> Iterable[str]:
    """Who asks: everybody, but a few where another route has the same handler, or where nobody is refused."""
    if rule.kind == "page":
        return ("anonymous", "stranger", "accepted", *MEMBERS, "operator")  # pages know sessions, not tokens
    same = key(name) != name or "/api/spaces/" in name
    return ("anonymous", "stranger", "writer") if same or rule.kind == "open" else MAY


def send(world: World, name: str, rule: Rule, caller: str, target: str) -> httpx.Response:
    asked = ask(name, rule, target=target, caller=caller)
    more = dict(asked.more)
    headers = more.pop("headers", {})
    if rule.kind == "page":
        cookie = world.cookies.get(caller)
        # Not compressed, so that the same page has the same length, whatever name it repeats.
        headers = {
            "Accept": "text/html",
            "Accept-Encoding": "identity",
            **({"Cookie": f"{COOKIE}={cookie}"} if cookie else {}),
        }
    else:
        headers = {**world.headers(caller), **headers}
    return world.send(asked.method, asked.address, headers=headers, **more)


def target_of(world: World, name: str, rule: Rule, visibility: str, *, fresh: bool) -> str:
    """What is asked for: the one that all callers share, or an own one where it is gone afterwards."""
    if not fresh:
        return world.slugs[visibility] if rule.kind == "collection" else f"the-{visibility}"
    made = f"{visibility}{secrets.token_hex(5)}"
    if rule.kind == "collection":
        return _make_collection(world, visibility, made)
    if rule.kind == "bucket":
        _make_bucket(world, visibility, made)
    else:
        _make_repository(world, visibility, "model", made)
    return made


CASES = [(name, rule) for name in ROUTES for rule in RULES.get(key(name), [])]


def test_the_matrix_has_enough_cells():
    assert sum(len(visibilities(rule)) * len(list(callers(name, rule))) for name, rule in CASES) > 2000


@pytest.mark.parametrize(("name", "rule"), CASES, ids=[f"{name} {rule.action or rule.kind}" for name, rule in CASES])
def test_who_gets_in_and_what_the_others_are_told(world: World, name: str, rule: Rule):
    wrong = []
    for visibility in visibilities(rule):
        for caller in callers(name, rule):
            refused = expected(rule, caller, visibility)
            target = target_of(world, name, rule, visibility, fresh=rule.fresh and refused is None)
            answer = send(world, name, rule, caller, target)
            if not _is_right(rule, caller, refused, answer):
                told = f"{answer.status_code} instead of {refused or 'getting in'}: {answer.text[:150]}"
                wrong.append(f"{visibility} {caller}: {told}")
    assert not wrong, "\n".join(wrong)


def _is_right(rule: Rule, caller: str, refused: int | None, answer: httpx.Response) -> bool:
    code = answer.headers.get("x-error-code")
    if rule.kind == "signed":
        return answer.status_code in (400, 401, 403, 404)
    if rule.kind == "open" and caller in INVALID:
        return answer.status_code < 500
    if refused is None:
        return answer.status_code < 500 and answer.status_code not in (401, 403) and code != "GatedRepo"
    if answer.status_code != refused or not answer.headers.get("x-error-message"):
        return False
    if rule.kind == "repository" and refused == 404:
        return code == "RepoNotFound"
    return code is None or code in ("GatedRepo", "RepoNotFound")


HIDING = [(name, rule) for name, rule in CASES if len(visibilities(rule)) > 1]


@pytest.mark.parametrize(("name", "rule"), HIDING, ids=[f"{name} {rule.action}" for name, rule in HIDING])
def test_what_is_private_cannot_be_told_from_what_is_missing(world: World, name: str, rule: Rule):
    private = target_of(world, name, rule, "private", fresh=False)
    missing = f"{private[:-24]}{'f' * 24}" if rule.kind == "collection" else "the-missing"
    assert len(missing) == len(private)
    for caller in callers(name, rule):
        if Action.SEE in MAY[caller][2]:
            continue
        told = [_told(send(world, name, rule, caller, target), target) for target in (private, missing)]
        assert told[0] == told[1], caller


def _told(answer: httpx.Response, target: str) -> tuple[int, dict[str, str], str]:
    """All that an answer says, but for what differs between any two and the name that was asked for."""
    varying = ("date", "x-request-id", "ratelimit")
    headers = {name: value.replace(target, "NAME") for name, value in answer.headers.items() if name not in varying}
    text = re.sub('name="once" value="[^"]*"', "", answer.text)  # of the form to sign out
    return answer.status_code, headers, text.replace(target, "NAME")


@pytest.mark.parametrize("caller", ["anonymous", "stranger", "other scope"])
@pytest.mark.parametrize(
    "address",
    [
        *("/", "/models", "/models?search=the", "/datasets", f"/{ORGANISATION}", "/api/models?limit=1000"),
        *(
            "/api/models?search=the-private",
            f"/api/datasets?author={ORGANISATION}",
            f"/api/spaces?author={ORGANISATION}",
        ),
        *(f"/api/models?author={ORGANISATION}&full=true&expand=likes", f"/api/buckets/{ORGANISATION}"),
        *(f"/api/organizations/{ORGANISATION}/settings/repositories", "/api/users/matrix-contributor/likes"),
        *(f"/api/collections?owner={ORGANISATION}", f"/api/collections?item=models/{ORGANISATION}/the-private"),
        "COLLECTION",
    ],
)
def test_no_list_names_what_is_private(world: World, address: str, caller: str):
    where = address.replace("COLLECTION", f"/api/collections/{ORGANISATION}/{world.slugs['public']}")
    headers = world.headers(caller)
    if caller in world.cookies and not where.startswith("/api/"):
        headers = {"Cookie": f"{COOKIE}={world.cookies[caller]}"}
    answer = world.client.get(where, headers=headers)
    assert answer.status_code == 200
    assert "the-private" not in answer.text.replace("search=the-private", "")


@pytest.mark.parametrize("address", ["/api/models?search=the-private", f"/{ORGANISATION}"])
def test_a_member_finds_what_is_private(world: World, address: str):
    headers = {**world.headers("reader"), "Cookie": f"{COOKIE}={world.cookies['reader']}"}
    assert "the-private" in world.client.get(address, headers=headers).text
