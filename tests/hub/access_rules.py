"""What each address of the hub asks of its caller, written down by hand: the matrix test holds the hub to it.

A new route needs a line here. Requests are well formed and change nothing that another cell needs.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from lmcommons.hub.accounts.permissions import Action

Kind = Literal["repository", "bucket", "collection", "namespace", "own", "open", "signed_in", "admin", "signed", "page"]

SEE, READ, DISCUSS, WRITE, MANAGE, CREATE, ADMINISTER = (
    Action.SEE,
    Action.READ,
    Action.DISCUSS,
    Action.WRITE,
    Action.MANAGE,
    Action.CREATE,
    Action.ADMINISTER,
)


@dataclass(frozen=True)
class Rule:
    """One request to a route, and who may make it.

    `kind` is what `action` is done to: a repository, bucket or collection of an organisation, the organisation's
    namespace, or the caller's own account. "open" is for everybody, "signed_in" for every valid token, "admin" for
    the hub's administrators, "signed" for whoever has a signed address and for no token, "page" for browsers.
    """

    kind: Kind
    action: Action | None = None
    params: dict[str, str] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)
    json: Any = None
    content: str | None = None
    media_type: str | None = None
    hidden: int = 404  # status for somebody who is not signed in where there is nothing to see
    fresh: bool = False  # what was asked for is gone afterwards: each caller gets an own one
    own: bool = False  # also does something that every account may do with a token that writes


def repository(action: Action, **more: Any) -> Rule:
    return Rule("repository", action, **more)


def bucket(action: Action, **more: Any) -> Rule:
    return Rule("bucket", action, hidden=401, **more)


def collection(action: Action, **more: Any) -> Rule:
    return Rule("collection", action, **more)


def page(action: Action | None = None, **more: Any) -> Rule:
    return Rule("page", action, **more)


OPEN = [Rule("open")]
SIGNED = [Rule("signed")]
REPO = "/api/{kind}/{namespace}/{name}"
BUCKET = "/api/buckets/{namespace}/{name}"
COLLECTION = "/api/collections/{namespace}/{slug}"
DISCUSSION = REPO + "/discussions/{number}"
RUNS = "/api/x/models/{namespace}/{name}/runs"
OURS = "/api/x/{kind}/{namespace}/{name}/discussions/{number}"
GIT = {"content": "0000", "hidden": 401}
LFS = {"hidden": 404}
NDJSON = {"content": '{"key":"header","value":{"summary":"s"}}\n', "media_type": "application/x-ndjson"}
OBJECT = {"oid": "0" * 64, "size": 1}
PUBLIC = {"type": "model", "name": "matrix-org/the-public"}
ACCESS = {"user": "nobody-at-all", "status": "accepted"}
WEBHOOK = {"url": "https://example.org", "watched": [{"type": "user", "name": "matrix-stranger"}]}
FILE = {"path": "x", "sample": "", "size": 1}

# By method and path, without the `/datasets` and `/spaces` before addresses outside `/api/`: those follow the models'.
RULES: dict[str, list[Rule]] = {
    # chapter 2
    "GET /api/whoami-v2": [Rule("signed_in")],
    f"GET {REPO}/auth-check": [repository(READ)],
    f"GET {REPO}/auth-check/write": [repository(WRITE)],
    "GET /api/users/{name}/overview": OPEN,
    "GET /api/organizations/{name}/overview": OPEN,
    "GET /api/organizations/{name}/members": OPEN,
    "PUT /api/organizations/{name}/members/{user}/role": [
        Rule("namespace", ADMINISTER, params={"user": "matrix-reader"}, json={"role": "read"})
    ],
    "DELETE /api/organizations/{name}/members/{user}": [
        Rule("namespace", ADMINISTER, params={"user": "matrix-operator"})
    ],
    "POST /api/x/organizations": [Rule("admin", json={"name": "NEW"})],
    "GET /api/organizations/{name}/followers": OPEN,
    "GET /api/users/{name}/followers": OPEN,
    "GET /api/users/{name}/following": OPEN,
    "GET /api/users/{name}/likes": OPEN,
    "GET /api/telemetry/{topic:path}": OPEN,
    "GET /api/agent-harnesses": OPEN,
    "GET /api/settings/repositories": [Rule("signed_in")],
    "GET /api/organizations/{organisation}/settings/repositories": OPEN,
    "POST /oauth/device": OPEN,
    "POST /oauth/token": OPEN,
    # chapter 3
    "POST /api/repos/create": [Rule("namespace", CREATE, json={"name": "NEW", "organization": "ORGANISATION"})],
    "DELETE /api/repos/delete": [repository(MANAGE, json={"name": "REPOSITORY"}, fresh=True)],
    "POST /api/repos/move": [repository(MANAGE, json={"fromRepo": "REPOSITORY", "toRepo": "REPOSITORY"})],
    f"PUT {REPO}/settings": [repository(MANAGE, json={})],
    f"POST {REPO}/duplicate": [repository(READ, json={"repository": "CALLER/NEW"}, own=True)],
    f"GET {REPO}": [repository(SEE)],
    f"GET {REPO}/revision/{{revision:path}}": [repository(SEE)],
    "GET /api/{kind}": OPEN,
    "GET /api/{kind}-tags-by-type": OPEN,
    "POST /api/validate-yaml": [Rule("open", json={"content": "# card"})],
    f"GET {REPO}/tree/{{rest:path}}": [repository(SEE)],
    f"POST {REPO}/paths-info/{{rest:path}}": [repository(SEE, json={"paths": ["x"]})],
    f"GET {REPO}/refs": [repository(SEE)],
    f"GET {REPO}/commits/{{rest:path}}": [repository(SEE)],
    f"POST {REPO}/branch/{{rest:path}}": [repository(WRITE, json={}, params={"rest": "b"})],
    f"DELETE {REPO}/branch/{{rest:path}}": [repository(WRITE, params={"rest": "none"})],
    f"POST {REPO}/tag/{{rest:path}}": [repository(WRITE, json={"tag": "t"})],
    f"DELETE {REPO}/tag/{{rest:path}}": [repository(WRITE, params={"rest": "none"})],
    f"POST {REPO}/super-squash/{{rest:path}}": [repository(WRITE, json={}, params={"rest": "side"})],
    f"POST {REPO}/like": [repository(DISCUSS)],
    f"DELETE {REPO}/like": [repository(DISCUSS)],
    f"GET {REPO}/likers": [repository(SEE)],
    "GET /{namespace}/{name}/info/refs": [
        repository(READ, query={"service": "git-upload-pack"}, hidden=401),
        repository(DISCUSS, query={"service": "git-receive-pack"}, hidden=401),
    ],
    "POST /{namespace}/{name}/git-upload-pack": [
        repository(READ, media_type="application/x-git-upload-pack-request", **GIT)
    ],
    "POST /{namespace}/{name}/git-receive-pack": [
        repository(DISCUSS, media_type="application/x-git-receive-pack-request", **GIT)
    ],
    "POST /{namespace}/{name}.git/info/lfs/locks": [repository(WRITE, json={"path": "x.txt"}, **LFS)],
    "GET /{namespace}/{name}.git/info/lfs/locks": [repository(SEE, **LFS)],
    "POST /{namespace}/{name}.git/info/lfs/locks/verify": [repository(WRITE, json={}, **LFS)],
    "POST /{namespace}/{name}.git/info/lfs/locks/{number}/unlock": [repository(WRITE, json={}, **LFS)],
    f"GET {REPO}/lfs-files": [repository(READ)],
    f"POST {REPO}/lfs-files/batch": [repository(MANAGE, json={"deletions": {"sha": []}})],
    f"POST {REPO}/lfs-files/duplicate": [repository(READ, json={"target": PUBLIC, "files": []}, own=True)],
    # chapters 4 and 5
    f"POST {REPO}/preupload/{{revision:path}}": [
        repository(WRITE, json={"files": [FILE]}),
        repository(DISCUSS, json={"files": [FILE]}, query={"create_pr": "1"}),
    ],
    f"POST {REPO}/commit/{{revision:path}}": [repository(WRITE, **NDJSON, params={"revision": "side"})],
    f"GET {REPO}/xet-{{access}}-token/{{revision:path}}": [
        repository(READ, params={"access": "read"}),
        repository(WRITE, params={"access": "write"}),
        repository(DISCUSS, params={"access": "write"}, query={"create_pr": "1"}),
    ],
    "POST /{namespace}/{name}.git/info/lfs/objects/batch": [
        repository(READ, json={"operation": "download", "objects": [OBJECT]}, **LFS),
        repository(DISCUSS, json={"operation": "upload", "objects": [OBJECT]}, **LFS),
    ],
    "GET /{namespace}/{name}/resolve/{revision}/{path:path}": [repository(READ)],
    "GET /{namespace}/{name}/raw/{revision}/{path:path}": [repository(READ)],
    # chapter 6
    f"GET {REPO}/discussions": [repository(SEE)],
    f"POST {REPO}/discussions": [repository(DISCUSS, json={"title": "t", "description": "d"})],
    f"GET {DISCUSSION}": [repository(SEE)],
    f"POST {DISCUSSION}/comment": [repository(DISCUSS, json={"comment": "c"})],
    f"POST {DISCUSSION}/comment/{{comment_id}}/edit": [repository(DISCUSS, json={"content": "c"})],
    f"POST {DISCUSSION}/comment/{{comment_id}}/hide": [repository(DISCUSS, json={})],
    f"POST {DISCUSSION}/title": [repository(WRITE, json={"title": "t"})],
    f"POST {DISCUSSION}/status": [repository(WRITE, json={"status": "open"})],
    f"POST {DISCUSSION}/merge": [repository(WRITE, json={})],
    **{f"GET {OURS}/{part}": [repository(SEE)] for part in ("reviews", "lines", "reactions")},
    f"POST {OURS}/reviews": [repository(DISCUSS, json={"verdict": "comment", "comment": "c"})],
    f"POST {OURS}/lines": [repository(DISCUSS, json={"replyTo": f"{9:024x}", "comment": "c"})],
    **{
        f"{method} {OURS}/{part}": [repository(DISCUSS)]
        for method in ("POST", "DELETE")
        for part in ("reviewers/{reviewer}", "comment/{comment_id}/reactions/{emoji}")
    },
    "GET /api/x/notifications": [Rule("own", DISCUSS)],
    "POST /api/x/notifications/read": [Rule("own", DISCUSS, json={})],
    f"GET {REPO}/user-access-request/{{status}}": [repository(MANAGE)],
    f"POST {REPO}/user-access-request/handle": [repository(MANAGE, json=ACCESS)],
    f"POST {REPO}/user-access-request/grant": [repository(MANAGE, json=ACCESS)],
    "POST /{namespace}/{name}/ask-access": [repository(DISCUSS, json={"x" * 20_000: ""})],
    "GET /api/collections": OPEN,
    "POST /api/collections": [Rule("namespace", CREATE, json={"namespace": "ORGANISATION", "title": "NEW"})],
    f"GET {COLLECTION}": [collection(SEE)],
    f"PATCH {COLLECTION}": [collection(WRITE, json={})],
    f"DELETE {COLLECTION}": [collection(WRITE, fresh=True)],
    f"POST {COLLECTION}/items": [collection(WRITE, json={"item": {"type": "model", "id": "matrix-org/the-public"}})],
    f"PATCH {COLLECTION}/items/{{item_id}}": [collection(WRITE, json={})],
    f"DELETE {COLLECTION}/items/{{item_id}}": [collection(WRITE)],
    f"POST {COLLECTION}/resource-group": [collection(WRITE, json={})],
    f"POST {COLLECTION}/upvote": [collection(SEE, own=True)],
    f"DELETE {COLLECTION}/upvote": [collection(SEE, own=True)],
    **{
        f"{method} /api/{kind}/{{name}}/follow": [Rule("own", DISCUSS)]
        for method in ("POST", "DELETE")
        for kind in ("users", "organizations")
    },
    "GET /api/settings/webhooks": [Rule("own", MANAGE)],
    "POST /api/settings/webhooks": [Rule("own", MANAGE, json=WEBHOOK)],
    **{
        f"{method} /api/settings/webhooks/{{webhook_id}}{rest}": [Rule("own", MANAGE, json=WEBHOOK)]
        for method, rest in (("GET", ""), ("POST", ""), ("DELETE", ""), ("POST", "/enable"), ("POST", "/disable"))
    },
    "GET /api/x/webhooks/{webhook_id}/deliveries": [Rule("own", MANAGE)],
    "POST /uploads": [Rule("own", DISCUSS, content="x", media_type="image/png")],
    # chapter 7
    "GET /api/buckets/{namespace}": OPEN,
    f"POST {BUCKET}": [Rule("namespace", CREATE, json={}, params={"name": "NEW"})],
    f"GET {BUCKET}": [bucket(SEE)],
    f"DELETE {BUCKET}": [bucket(MANAGE, fresh=True)],
    f"PUT {BUCKET}/settings": [bucket(MANAGE, json={"private": True}, fresh=True)],
    f"GET {BUCKET}/tree/{{prefix:path}}": [bucket(SEE)],
    f"GET {BUCKET}/tree": [bucket(SEE)],
    f"POST {BUCKET}/paths-info": [bucket(SEE, json={"paths": ["x"]})],
    f"POST {BUCKET}/batch": [bucket(WRITE, content="", media_type="application/x-ndjson")],
    f"GET {BUCKET}/xet-{{right}}-token": [
        bucket(READ, params={"right": "read"}),
        bucket(WRITE, params={"right": "write"}),
    ],
    "GET /buckets/{namespace}/{name}/resolve/{path:path}": [bucket(READ)],
    f"GET {BUCKET}/events": [bucket(READ)],
    "GET /api/models/{namespace}/{name}/safetensors-metadata/{path:path}": [repository(READ)],
    "GET /api/datasets/{namespace}/{name}/parquet": [repository(SEE)],
    "GET /api/datasets/{namespace}/{name}/parquet/{config}": [repository(SEE)],
    "GET /api/datasets/{namespace}/{name}/parquet/{config}/{split}": [repository(SEE)],
    "GET /api/datasets/{namespace}/{name}/parquet/{config}/{split}/{number}.parquet": [repository(READ)],
    "GET /api/datasets/{namespace}/{name}/splits": [repository(SEE)],
    "GET /api/datasets/{namespace}/{name}/rows": [repository(READ)],
    "GET /api/datasets/{namespace}/{name}/leaderboard": [repository(SEE)],
    "GET /api/x/lineage/{kind}/{namespace}/{name}": [repository(SEE)],
    f"GET {RUNS}": [repository(SEE)],
    f"GET {RUNS}/{{run}}": [repository(SEE)],
    f"PUT {RUNS}/{{run}}": [repository(WRITE, json={"name": "r"})],
    f"PATCH {RUNS}/{{run}}": [repository(WRITE, json={"step": 1})],
    # addresses that carry their own signature, whoever holds it
    **{
        f"{method} /api/lfs{rest}": SIGNED
        for method, rest in (
            ("PUT", ""),
            ("GET", ""),
            ("POST", "/complete"),
            ("POST", "/verify"),
            ("PUT", "/{part:int}"),
        )
    },
    "GET /xet/xorbs/{key:path}": SIGNED,
    "POST /xet/{memory}/v1/xorbs/{prefix}/{hash}": SIGNED,
    **{f"POST /xet/{{memory}}/{version}/shards": SIGNED for version in ("v1", "v2")},
    **{f"GET /xet/{{memory}}/{version}/reconstructions/{{hash}}": SIGNED for version in ("v1", "v2")},
    "GET /xet/{memory}/v1/chunks/{prefix}/{hash}": SIGNED,
    # operating, and what is nowhere
    "GET /healthz": OPEN,
    "GET /metrics": [Rule("admin")],
    "GET /api/openapi.json": OPEN,
    "POST /xet/{memory}/v1/xorb-grants/{prefix}/{hash}": OPEN,
    "GET /api/{kind}/{name}": OPEN,
    "GET /api/{kind}/{name}/revision/{revision:path}": OPEN,
    **{f"{method} /api/{{kind}}/{{name}}/like": OPEN for method in ("POST", "DELETE")},
    **{
        f"{method} /api/{{kind}}/{{name}}/{part}/{{rest:path}}": OPEN
        for method in ("GET", "POST")
        for part in ("commits", "paths-info", "tree")
    },
    "GET /{name}/resolve/{revision}/{path:path}": OPEN,
    **{
        f"{method} /api/spaces/{{namespace}}/{{name}}/{part}": [repository(SEE)]
        for method in ("GET", "POST", "PUT", "DELETE")
        for part in (
            *("dev-mode", "hardware", "logs/build", "logs/run", "pause", "restart", "runtime", "secrets"),
            *("sleeptime", "variables", "volumes"),
        )
    },
    **{f"{method} /api/{{rest:path}}": OPEN for method in ("GET", "POST", "PUT", "PATCH", "DELETE")},
    "GET /uploads/{name}": OPEN,
    # pages
    "GET /": [page()],
    "GET /models": [page()],
    "GET /datasets": [page()],
    "GET /{namespace}": [page()],
    "GET /{namespace}/{name}": [page(SEE)],
    "GET /{namespace}/{name}/tree/{rest:path}": [page(SEE)],
    "GET /{namespace}/{name}/commits/{rest:path}": [page(SEE)],
    "GET /{namespace}/{name}/blob/{rest:path}": [page(READ, params={"rest": "main/x.txt"})],
    "GET /{namespace}/{name}/commit/{rest:path}": [page(READ)],
    "GET /{namespace}/{name}/tensor/{rest:path}": [page(READ, params={"rest": "main/x.txt"})],
    "GET /{namespace}/{name}/compare": [page(READ)],
    "GET /{namespace}/{name}/compare/{rest:path}": [page(READ, params={"rest": "main..side"})],
    "GET /{namespace}/{name}/difference/{rest:path}": [page(READ, params={"rest": "main..side/x.txt"})],
    "GET /{namespace}/{name}/edit/{rest:path}": [page(READ, params={"rest": "main/x.txt"})],
    "GET /{namespace}/{name}/delete/{rest:path}": [page(READ, params={"rest": "main/x.txt"})],
    "GET /{namespace}/{name}/new-file/{rest:path}": [page(READ)],
    "GET /{namespace}/{name}/upload/{rest:path}": [page(READ)],
    "GET /{namespace}/{name}/refs": [page(SEE)],
    "GET /{namespace}/{name}/likes": [page(SEE)],
    "GET /{namespace}/{name}/followers": [page(SEE)],
    "GET /{namespace}/{name}/access": [page(MANAGE)],
    "GET /{namespace}/{name}/settings": [page(MANAGE)],
    "GET /{namespace}/{name}/settings/webhooks": [page(MANAGE)],
    "GET /{namespace}/{name}/settings/webhooks/{webhook:int}": [page(MANAGE, params={"webhook": "9"})],
    "GET /{namespace}/{name}/settings/webhooks/{webhook:int}/deliveries/{delivery:int}": [
        page(MANAGE, params={"webhook": "9", "delivery": "9"})
    ],
    "GET /{namespace}/{name}/viewer": [page(READ)],
    "GET /{namespace}/{name}/viewer/statistics": [page(READ)],
    "GET /{namespace}/{name}/viewer/image": [page(READ)],
    "GET /{namespace}/{name}/lineage": [page(SEE)],
    "GET /{namespace}/{name}/runs": [page(SEE)],
    "GET /{namespace}/{name}/runs/{run}": [page(SEE)],
    "GET /{namespace}/{name}/leaderboard": [page(SEE)],
    "GET /{namespace}/{name}/discussions": [page(SEE)],
    "GET /{namespace}/{name}/discussions/{number:int}": [page(SEE)],
    "GET /{namespace}/{name}/discussions/{number:int}/commits": [page(SEE)],
    "GET /{namespace}/{name}/discussions/{number:int}/changes": [page(READ)],
    "GET /{namespace}/{name}/discussions/{number:int}/comments/{comment:int}": [page(SEE)],
    "GET /notifications": [page()],
    "GET /leaderboards": [page()],
    "GET /compare": [page()],
}

# Forms carry the secret of their session; tests/hub/test_sign_in.py and test_access_requests.py send them.
FORMS = {
    *("GET /new", "POST /new", "POST /{namespace}/follow"),  # tests/hub/test_web_editing.py and test_web_settings.py
    *(
        f"POST /{{namespace}}/{{name}}/{path}"
        for path in (
            *("edit/{rest:path}", "delete/{rest:path}", "new-file/{rest:path}", "upload/{rest:path}", "upload-file"),
            *("refs/branch", "refs/branch/delete", "refs/tag", "refs/tag/delete", "likes", "access", "access/grant"),
            "followers",
            *("settings", "settings/move", "settings/delete", "settings/webhooks", "settings/webhooks/{webhook:int}"),
            "settings/webhooks/{webhook:int}/act",
            *("discussions/new", "discussions/attach", "pulls/new"),  # tests/hub/test_web_discussions.py
            *(
                f"discussions/{{number:int}}/{part}"
                for part in ("comment", "title", "watch", "lines", "review", "reviewers", "merge")
            ),
            *(
                f"discussions/{{number:int}}/comments/{{comment:int}}/{part}"
                for part in ("edit", "hide", "react", "reply")
            ),
        )
    ),
    *("GET /{namespace}/{name}/discussions/new", "GET /{namespace}/{name}/pulls/new"),
    "GET /{namespace}/{name}/discussions/{number:int}/comments/{comment:int}/edit",
    *("POST /notifications/read", "POST /notifications/mail"),
    *("GET /login", "GET /join", "GET /settings/tokens", "GET /settings/password", "GET /oauth/device", "POST /login"),
    *("POST /join", "POST /logout", "POST /settings/tokens", "POST /settings/tokens/{token_id:int}/revoke"),
    *("POST /settings/password", "POST /oauth/device/answer", "POST /{namespace}/{name}/request-access"),
    # tests/hub/test_web_mail.py
    *(f"{method} /{page}" for method in ("GET", "POST") for page in ("login/forgotten", "login/new-password")),
    *("GET /settings/email/confirm", "POST /settings/email/confirm", "POST /settings/email/again"),
    *(f"POST /organizations/{{organisation}}/invitations{step}" for step in ("", "/withdraw", "/answer")),
    # tests/hub/test_web_people.py
    *("POST /login/code", "GET /settings/two-factor", "GET /settings/sessions", "GET /settings/decisions"),
    *(f"POST /settings/two-factor/{step}" for step in ("begin", "confirm", "recovery-codes", "off")),
    *("GET /settings/keys", "POST /settings/keys", "POST /settings/keys/{key_id:int}/remove"),  # tests/hub/test_ssh.py
    *("POST /settings/sessions/end-others", "POST /settings/sessions/{session_id}/end"),
    *(f"{method} /settings/{page}" for method in ("GET", "POST") for page in ("profile", "email", "delete")),
    *("GET /organizations/new", "POST /organizations/new", "POST /organizations/{organisation}/members/remove"),
    *(f"{method} /organizations/{{organisation}}/members" for method in ("GET", "POST")),
    *(f"{method} /organizations/{{organisation}}/settings" for method in ("GET", "POST")),
    "GET /organizations/{organisation}/changes",
    *("GET /reports/new", "GET /reports/hiding", "POST /reports"),
    *("GET /reports/{case_id:int}", "POST /reports/{case_id:int}/appeal"),
    # tests/hub/test_web_operator.py
    *(
        f"GET /operator{page}"
        for page in (
            *("", "/users", "/organisations", "/storage", "/invitations", "/log", "/health", "/reports"),
            "/reports/{case_id:int}",
        )
    ),
    *("POST /operator/accounts/{account}", "POST /operator/invitations", "POST /operator/reports/{case_id:int}"),
    "POST /operator/invitations/{invitation_id}/end",
    *("GET /imports", "POST /imports", "POST /imports/{number:int}/end"),  # tests/hub/test_imports.py
    "GET /language/{language}",  # a choice that only a cookie keeps: tests/hub/test_pages_finding.py
    # tests/hub/test_try_it.py
    *("GET /{namespace}/{name}/try", "POST /{namespace}/{name}/try", "POST /{namespace}/{name}/try/stream"),
}
