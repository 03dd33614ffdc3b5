"""What the hub signs for programs that move large files without a token of its own: Xet tokens, and addresses.

Each names what it is good for and who was given it. What that account may do is asked again whenever it is used: it
ends with the account, its token or key, and its right, and with what it is for, deleted, made private or hidden.
"""

import hashlib
import hmac
import time
from dataclasses import asdict, dataclass
from typing import Literal, cast
from urllib.parse import parse_qsl, urlencode

from sqlalchemy.orm import raiseload
from starlette.requests import Request

from lmcommons.hub.accounts.permissions import ANONYMOUS, Action, Actor, Scopes, require
from lmcommons.hub.api.dependencies import hub_of
from lmcommons.hub.database.tables import Bucket, Repository
from lmcommons.hub.errors import Forbidden, NotFound, RepositoryNotFound
from lmcommons.hub.objects.xet.reach import parse_scope
from lmcommons.hub.rooms import Hub

Right = Literal["read", "discuss", "write"]


@dataclass(frozen=True)
class Ticket:
    """A right in a scope, for an account by one of its tokens or SSH keys, or for everybody, until `expires`."""

    scope: str
    right: Right
    account: int | None
    token: int | None
    expires: int
    key: int | None = None

    @classmethod
    def give(cls, actor: Actor, scope: str, right: Right, seconds: int) -> "Ticket":
        """A ticket for whom the caller has checked."""
        return cls(scope, right, actor.account_id, actor.token_id, int(time.time()) + seconds, actor.key_id)


def admit(hub: Hub, ticket: Ticket) -> tuple[Actor, Repository | Bucket]:
    """Whom a ticket speaks for, and its scope, once the account may do this now.

    Raises:
        Unauthorized: what it was given for was revoked. Forbidden: the account may no longer do this.
        NotFound: the scope was deleted, or the account may no longer know of it.
    """
    kind, number = parse_scope(ticket.scope)
    actor = ANONYMOUS
    if ticket.account is not None and ticket.token is not None:
        actor = hub.tokens.actor_of(ticket.token, ticket.account)
    elif ticket.account is not None and ticket.key is not None:
        scopes = Scopes({number: Action(ticket.right)} if kind == "repository" else {})
        actor = hub.keys.actor_by(ticket.key, ticket.account, scopes)
    with hub.database.read() as session:
        if kind == "repository":
            target: Repository | Bucket | None = session.get(
                Repository, number, options=[raiseload(Repository.tag_rows)]
            )
        else:
            target = session.get(Bucket, number)
    if target is None:
        raise RepositoryNotFound() if kind == "repository" else NotFound("The bucket was deleted")
    require(actor, Action(ticket.right), target)
    return actor, target


def signature(hub: Hub, purpose: str, text: str) -> str:
    """Shows that this hub wrote `text` for one purpose."""
    return hmac.new(hub.secret, f"{purpose} {text}".encode(), hashlib.sha256).hexdigest()


def signed_address(hub: Hub, method: str, path: str, ticket: Ticket, **values: str | int) -> str:
    """An address of the hub for one kind of request, that says what it is for and who was given it."""
    fields = {name: "" if value is None else value for name, value in asdict(ticket).items()}
    text = f"{path}?{urlencode(fields | values)}"
    return f"{hub.settings.public_url}{text}&signature={signature(hub, method, text)}"


def read_address(request: Request) -> tuple[Ticket, dict[str, str]]:
    """The ticket and the values of the signed address that is asked for; `admit` says whether it still holds.

    Raises:
        Forbidden: the signature is wrong or too old.
    """
    query, _, given = request.url.query.rpartition("&signature=")
    method = "GET" if request.method == "HEAD" else request.method
    expected = signature(hub_of(request), method, f"{request.url.path}?{query}")
    values = dict(parse_qsl(query, keep_blank_values=True))
    if not hmac.compare_digest(expected.encode(), given.encode()) or int(values["expires"]) < time.time():
        raise Forbidden("This address is no longer valid; ask for a new one as you got it")
    account, token, key = (int(text) if (text := values.pop(name)) else None for name in ("account", "token", "key"))
    scope, right, expires = values.pop("scope"), cast(Right, values.pop("right")), int(values.pop("expires"))
    return Ticket(scope, right, account, token, expires, key), values
