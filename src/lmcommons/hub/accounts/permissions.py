"""Who may do what: `allowed` is the only place that decides it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from lmcommons.hub.database.tables import Account, Repository, Role, TokenRole
from lmcommons.hub.errors import Forbidden, HubError, RepositoryNotFound, Unauthorized


class Action(StrEnum):
    """What an actor wants to do with a repository, or (CREATE) in an account's namespace."""

    SEE = "see"  # that it is there: its information, names of files, discussions
    READ = "read"  # the contents of its files
    DISCUSS = "discuss"  # open discussions and pull requests, comment, like
    WRITE = "write"  # commits, branches, tags, merges
    MANAGE = "manage"  # settings, visibility, move, delete
    CREATE = "create"  # a repository in the namespace


LOOKING = (Action.SEE, Action.READ)


@dataclass(frozen=True)
class Actor:
    """Who makes a request: an account through a token, or nobody (`ANONYMOUS`)."""

    account_id: int | None = None
    name: str | None = None
    is_admin: bool = False
    token_role: TokenRole = TokenRole.READ
    token_name: str | None = None
    roles: Mapping[int, Role] = field(default_factory=dict)  # by organisation

    @property
    def is_anonymous(self) -> bool:
        """Whether this is nobody."""
        return self.account_id is None

    @property
    def email(self) -> str:
        """What commits are signed with: says who, and tells nobody an address."""
        return f"{self.name}@users.noreply"


ANONYMOUS = Actor()


def allowed(actor: Actor, action: Action, target: Repository | Account) -> bool:
    """Whether `actor` may do `action` to the repository, or in the account's namespace.

    Everybody reads public repositories. Owners, members of the owning organisation and administrators of the hub read
    private ones. Members with the role `write` or `admin` write and manage all repositories of the organisation,
    `contributor` those that they created; both create. Whatever is not reading needs a write token.
    """
    if isinstance(target, Repository):
        owner_id, creator_id = target.account_id, target.creator_id
        if action in LOOKING and not target.private:
            return True
        if action is Action.DISCUSS and not target.private:
            return not actor.is_anonymous and actor.token_role is TokenRole.WRITE
    else:
        owner_id, creator_id = target.id, None
    if actor.is_anonymous or (action not in LOOKING and actor.token_role is not TokenRole.WRITE):
        return False
    if actor.is_admin or actor.account_id == owner_id:
        return True
    role = actor.roles.get(owner_id)
    if role is Role.CONTRIBUTOR:
        return action in (*LOOKING, Action.DISCUSS, Action.CREATE) or creator_id == actor.account_id
    return role is not None and (action in (*LOOKING, Action.DISCUSS) or role in (Role.WRITE, Role.ADMIN))


def require(actor: Actor, action: Action, target: Repository | Account) -> None:
    """Return when `allowed`.

    Raises:
        RepositoryNotFound: a repository that the actor may not know of.
        Unauthorized: nobody is signed in.
        Forbidden: the actor, or the token, may not do this.
    """
    if not allowed(actor, action, target):
        raise _refusal(actor, action, target)


def _refusal(actor: Actor, action: Action, target: Repository | Account) -> HubError:
    name = target.full_name if isinstance(target, Repository) else target.name
    if isinstance(target, Repository) and not allowed(actor, Action.SEE, target):
        return RepositoryNotFound()
    if actor.is_anonymous:
        return Unauthorized(f"You must be signed in to {action} in {name}; send a token with write access")
    if actor.token_role is not TokenRole.WRITE:
        return Forbidden(
            f"Token '{actor.token_name}' of {actor.name} can only read; to {action} in {name} use a write token"
        )
    return Forbidden(f"{actor.name} may not {action} in {name}; ask an owner for the role 'write'")
