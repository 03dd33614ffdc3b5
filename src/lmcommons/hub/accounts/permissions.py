"""Who may do what: `allowed` is the only place that decides it; `visible` and `readable` say the same in SQL."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Protocol

from sqlalchemy import ColumnElement, and_, false, or_, true

from lmcommons.hub.database.tables import Account, Bucket, Collection, Gate, Repository, Role, TokenRole
from lmcommons.hub.errors import Forbidden, GatedRepository, HubError, RepositoryNotFound, Unauthorized
from lmcommons.hub.words import Words


class Action(StrEnum):
    """What an actor wants to do with a repository, or in an account's namespace."""

    SEE = "see"  # that it is there: its information, names of files, discussions
    READ = "read"  # the contents of its files
    DISCUSS = "discuss"  # open discussions and pull requests, comment, like
    WRITE = "write"  # commits, branches, tags, merges
    MANAGE = "manage"  # settings, visibility, move, delete
    CREATE = "create"  # a repository in the namespace
    ADMINISTER = "administer"  # an organisation: who is a member, and with which role


LOOKING = (Action.SEE, Action.READ)
WRITERS = (Role.WRITE, Role.ADMIN)

# What a fine-grained token may be given, and what each right includes.
RIGHTS: dict[Action, frozenset[Action]] = {
    Action.READ: frozenset(LOOKING),
    Action.DISCUSS: frozenset((*LOOKING, Action.DISCUSS)),
    Action.WRITE: frozenset((*LOOKING, Action.DISCUSS, Action.WRITE, Action.CREATE)),
    Action.MANAGE: frozenset(Action) - {Action.ADMINISTER},
    Action.ADMINISTER: frozenset(Action),
}


class Owned(Protocol):
    """What belongs to an account: a repository, a bucket."""

    @property
    def account_id(self) -> int: ...
    @property
    def creator_id(self) -> int | None: ...
    @property
    def private(self) -> bool: ...
    @property
    def full_name(self) -> str: ...


@dataclass(frozen=True)
class Scopes:
    """What a fine-grained token may do, by repository and by namespace (their ids)."""

    repositories: Mapping[int, Action] = field(default_factory=dict)
    accounts: Mapping[int, Action] = field(default_factory=dict)


@dataclass(frozen=True)
class Actor:
    """Who makes a request: an account through a token, or nobody (`ANONYMOUS`)."""

    account_id: int | None = None
    name: str | None = None
    is_admin: bool = False
    token_role: TokenRole = TokenRole.READ
    token_name: str | None = None
    roles: Mapping[int, Role] = field(default_factory=dict)  # by organisation
    granted: frozenset[int] = frozenset()  # gated repositories whose files were opened to the account
    scopes: Scopes = field(default_factory=Scopes)  # of a fine-grained token
    token_id: int | None = None
    key_id: int | None = None  # of the SSH key that a ticket for large files was given for
    language: str | None = None  # that the account chose

    @property
    def is_anonymous(self) -> bool:
        """Whether this is nobody."""
        return self.account_id is None

    @property
    def reading(self) -> "Actor":
        """The same, who can only look."""
        return replace(self, token_role=TokenRole.READ)

    @property
    def email(self) -> str:
        """What commits are signed with: says who, and tells nobody an address."""
        return f"{self.name}@users.noreply"


ANONYMOUS = Actor()


def allowed(actor: Actor, action: Action, target: Owned | Account) -> bool:
    """Whether `actor` may do `action` to the repository or bucket, or in the account's namespace.

    Everybody sees public repositories, and reads those that are not gated; gated ones, whoever was given access.
    Owners, members of the owning organisation and administrators of the hub see and read private and gated ones.
    Members with the role `write` or `admin` write and manage all that the organisation owns, `contributor` what they
    created; both create. Only `admin` administers. A read token only looks, and a fine-grained one does no more than
    its scopes say. What moderators hid is there for those alone who may manage it.
    """
    if _public(target) and (action is Action.SEE or (action is Action.READ and not _gate(target))):
        return True
    return _token_allows(actor, action, target) and _account_allows(actor, action, target)


def require(actor: Actor, action: Action, target: Owned | Account) -> None:
    """Return when `allowed`.

    Raises:
        RepositoryNotFound: something that the actor may not know of.
        GatedRepository: its files are not open to the actor.
        Unauthorized: nobody is signed in.
        Forbidden: the actor, or the token, may not do this.
    """
    if not allowed(actor, action, target):
        raise _refusal(actor, action, target)


def operates(actor: Actor) -> bool:
    """Whether `actor` looks after the whole hub: its users, quotas, reports, log."""
    return actor.is_admin and actor.token_role is TokenRole.WRITE


def visible(actor: Actor) -> ColumnElement[bool]:
    """`allowed(actor, SEE, repository)` as a condition on rows of repositories."""
    return or_(and_(Repository.private.is_(False), Repository.hidden.is_(False)), _held(actor))


def readable(actor: Actor) -> ColumnElement[bool]:
    """`allowed(actor, READ, repository)` as a condition on rows of repositories."""
    opened: ColumnElement[bool] = Repository.gated == Gate.NONE
    if actor.granted:
        opened = or_(opened, and_(Repository.id.in_(actor.granted), _in_scope(actor)))
    return or_(and_(Repository.private.is_(False), Repository.hidden.is_(False), opened), _held(actor))


def readable_buckets(actor: Actor) -> ColumnElement[bool]:
    """`allowed(actor, READ, bucket)` as a condition on rows of buckets."""
    return _visible_rows(actor, Bucket)


def visible_collections(actor: Actor) -> ColumnElement[bool]:
    """`allowed(actor, SEE, collection)` as a condition on rows of collections."""
    return _visible_rows(actor, Collection)


def _visible_rows(actor: Actor, table: type[Bucket] | type[Collection]) -> ColumnElement[bool]:
    """Rows that are public, or the actor's; of what has no gate, and that tokens name by its account alone."""
    if actor.is_anonymous:
        return table.private.is_(False)
    owned: ColumnElement[bool] = true() if actor.is_admin else table.account_id.in_([actor.account_id, *actor.roles])
    if actor.token_role is TokenRole.FINE_GRAINED:
        owned = and_(owned, table.account_id.in_(actor.scopes.accounts))
    return or_(table.private.is_(False), owned)


def _public(target: Owned | Account) -> bool:
    return not isinstance(target, Account) and not target.private and not _hidden(target)


def _hidden(target: Owned | Account) -> bool:
    return isinstance(target, Repository) and target.hidden


def _gate(target: Owned | Account) -> Gate:
    return target.gated if isinstance(target, Repository) else Gate.NONE


def _token_allows(actor: Actor, action: Action, target: Owned | Account) -> bool:
    if actor.token_role is TokenRole.WRITE:
        return True
    if actor.token_role is TokenRole.READ:
        return action in LOOKING
    rights = [actor.scopes.accounts.get(_owner(target))]
    if isinstance(target, Repository):
        rights.append(actor.scopes.repositories.get(target.id))
    return any(action in RIGHTS[right] for right in rights if right is not None)


def _account_allows(actor: Actor, action: Action, target: Owned | Account) -> bool:
    if actor.is_anonymous:
        return False
    if actor.is_admin or actor.account_id == _owner(target):
        return True
    creator_id = None
    if not isinstance(target, Account):
        creator_id = target.creator_id
        if _public(target) and action is Action.DISCUSS:
            return True
        if isinstance(target, Repository) and _public(target) and action in LOOKING and target.id in actor.granted:
            return True
    role = actor.roles.get(_owner(target))
    if _hidden(target) and not (role in WRITERS or (role is Role.CONTRIBUTOR and creator_id == actor.account_id)):
        return False
    if action is Action.ADMINISTER:
        return role is Role.ADMIN
    if role is Role.CONTRIBUTOR:
        return action in (*LOOKING, Action.DISCUSS, Action.CREATE) or creator_id == actor.account_id
    return role is not None and (action in (*LOOKING, Action.DISCUSS) or role in WRITERS)


def _owner(target: Owned | Account) -> int:
    return target.id if isinstance(target, Account) else target.account_id


def _held(actor: Actor) -> ColumnElement[bool]:
    """Rows that the actor looks into as an owner, a member or an administrator, with a token that allows it."""
    if actor.is_anonymous:
        return false()
    if actor.is_admin:
        return _in_scope(actor)
    managed = [actor.account_id, *(id_ for id_, role in actor.roles.items() if role in WRITERS)]
    created = [id_ for id_, role in actor.roles.items() if role is Role.CONTRIBUTOR]
    owned = or_(
        and_(Repository.hidden.is_(False), Repository.account_id.in_([actor.account_id, *actor.roles])),
        Repository.account_id.in_(managed),
        and_(Repository.account_id.in_(created), Repository.creator_id == actor.account_id),
    )
    return and_(owned, _in_scope(actor))


def _in_scope(actor: Actor) -> ColumnElement[bool]:
    """Rows that the token may look into; every right includes looking."""
    if actor.token_role is not TokenRole.FINE_GRAINED:
        return true()
    return or_(Repository.account_id.in_(actor.scopes.accounts), Repository.id.in_(actor.scopes.repositories))


def _refusal(actor: Actor, action: Action, target: Owned | Account) -> HubError:
    name = target.name if isinstance(target, Account) else target.full_name
    if not isinstance(target, Account) and not allowed(actor, Action.SEE, target):
        return RepositoryNotFound()
    if action is Action.READ and isinstance(target, Repository) and target.gated:
        return GatedRepository(target.type, name, signed_in=not actor.is_anonymous)
    act = Words(action)
    if actor.is_anonymous:
        return Unauthorized(
            "You must be signed in to {action} in {name}; send a token with write access", action=act, name=name
        )
    if not _token_allows(actor, action, target):
        values: dict[str, Any] = {"token": actor.token_name, "actor": actor.name, "action": act, "name": name}
        if actor.token_role is TokenRole.READ:
            return Forbidden(
                "Token '{token}' of {actor} can only read; to {action} in {name} use a write token", **values
            )
        return Forbidden(
            "Token '{token}' of {actor} is fine-grained and has no scope to {action} in {name}; make one that has",
            **values,
        )
    role = Role.ADMIN if action is Action.ADMINISTER else Role.WRITE
    return Forbidden(
        "{actor} may not {action} in {name}; ask an owner for the role '{role}'",
        actor=actor.name,
        action=act,
        name=name,
        role=Words(role),
    )
