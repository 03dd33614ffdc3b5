"""A user leaves for good: what others need goes to an heir, what is only theirs goes, the log forgets the name."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, String, and_, cast, delete, func, or_, select, update
from sqlalchemy.orm import Session

from lmcommons.hub.accounts.accounts import find_account, find_user
from lmcommons.hub.accounts.organisations import require_other_admin
from lmcommons.hub.accounts.permissions import Actor
from lmcommons.hub.database.tables import (
    Account,
    AccountKind,
    Bucket,
    Collection,
    CollectionUpvote,
    Event,
    Like,
    Membership,
    ModerationCase,
    ReportedKind,
    Repository,
    Role,
    Table,
)
from lmcommons.hub.errors import BadRequest, Conflict
from lmcommons.hub.operating.incoming import acting
from lmcommons.hub.rooms import Hub

SHOWN = 3  # names in a refusal
# In the data of events, what is or begins with the name of an account; a token's name, in its events, is none.
NAMED = ("name", "user", "former", "source", "members", "slug", "item")
TOKENS = "token."

Owned = Repository | Bucket | Collection


def leave(hub: Hub, actor: Actor, password: str, code: str) -> None:
    """Delete the actor's own account, as `delete_user` does; nothing is given to an heir.

    Raises:
        Unauthorized: nobody is signed in, the password is wrong, or the code, where a second factor is on.
        Conflict: as `require_free`. TooManyRequests: too many wrong codes.
    """
    hub.sign_in.require_password(actor, password)
    assert actor.name is not None
    assert actor.account_id is not None
    require_free(hub, actor.name)
    if hub.two_factors.is_on(actor.account_id):
        hub.two_factors.check(actor.account_id, code)
    _delete(hub, actor.name, is_own=True)


def require_free(hub: Hub, name: str) -> None:
    """Return when nobody else needs the account of a user.

    Raises:
        NotFound: no such user.
        Conflict: the user owns something, or is the last admin of an organisation.
    """
    with hub.database.read() as session:
        user = find_user(session, name)
        _require_other_admins(session, user)
        _require_nothing_owned(session, user)


def delete_user(hub: Hub, name: str, heir: str | None = None) -> None:
    """Delete a user, for the operator; what the user owns goes to `heir`, a user or organisation, first.

    Tokens, sessions, memberships, likes, follows, webhooks and requests for access go with the account. Comments and
    commits stay; comments have no author any more. In the log a pseudonym stands for the name. The name is never given
    to anybody else, who could pose as the former owner to programs that still ask for it.

    A transfer that was interrupted is continued by the same call.

    Raises:
        NotFound: no such user, or no such heir.
        Conflict: the user owns something and there is no heir, the heir has something of the same name, or the user
            is the last admin of an organisation.
        Forbidden: past the heir's quota.
    """
    with hub.database.read() as session:
        user = find_user(session, name)
        _require_other_admins(session, user)
    if heir is not None:
        _transfer(hub, user, hub.accounts.find(heir))
    _delete(hub, name)


def _delete(hub: Hub, name: str, *, is_own: bool = False) -> None:
    with hub.database.write() as session:
        user = find_user(session, name)
        _require_other_admins(session, user)
        _require_nothing_owned(session, user)
        _forget(session, user, is_own=is_own)


def _transfer(hub: Hub, user: Account, heir: Account) -> None:
    if heir.id == user.id:
        raise BadRequest("{user} cannot inherit from itself", user=user.name)
    with hub.database.read() as session:
        owned, present = _owned(session, user), {_key(other) for other in _owned(session, heir)}
    if taken := [each for each in owned if _key(each) in present]:
        raise Conflict("{heir} has {names} too; rename or delete one of each", heir=heir.name, names=_names(taken))
    hub.accounts.require_room(heir.id, hub.accounts.used(user.id))
    actor = replace(acting(hub, user.name), name=None)  # in the log it is the operator
    for each in owned:
        if isinstance(each, Repository):
            hub.repositories.move(actor, each.type, each.full_name, f"{heir.name}/{each.name}")
        elif isinstance(each, Bucket):
            hub.buckets.move(actor, each.full_name, f"{heir.name}/{each.name}")
    with hub.database.write() as session:
        receiver = find_account(session, heir.name)
        first = session.scalar(select(func.count()).where(Collection.account_id == heir.id)) or 0
        mine = select(Collection).where(Collection.account_id == user.id).order_by(Collection.position, Collection.id)
        for position, collection in enumerate(session.scalars(mine).all(), first):
            former = collection.full_name
            collection.account, collection.position = receiver, position
            told = {"slug": collection.full_name, "former": former}
            session.add(Event(kind="collection.moved", data=told))


def _require_nothing_owned(session: Session, user: Account) -> None:
    if owned := _owned(session, user):
        raise Conflict(
            "{user} owns {names}; give it to somebody else (on the command line with --transfer-to), or delete it "
            "first",
            user=user.name,
            names=_names(owned),
        )


def _require_other_admins(session: Session, user: Account) -> None:
    administered = (
        select(Account)
        .join(Membership, Membership.organisation_id == Account.id)
        .where(Membership.user_id == user.id, Membership.role == Role.ADMIN)
    )
    for team in session.scalars(administered.order_by(Account.name_key)):
        require_other_admin(session, team, user)


def _owned(session: Session, account: Account) -> Sequence[Owned]:
    mine = account.id
    return [
        *session.scalars(select(Repository).where(Repository.account_id == mine).order_by(Repository.id)),
        *session.scalars(select(Bucket).where(Bucket.account_id == mine).order_by(Bucket.id)),
        *session.scalars(select(Collection).where(Collection.account_id == mine).order_by(Collection.id)),
    ]


def _key(owned: Owned) -> tuple[str, str]:
    """What two of one owner cannot both have."""
    if isinstance(owned, Collection):
        return "collection", owned.title_key
    return (owned.type if isinstance(owned, Repository) else "bucket"), owned.name_key


def _names(owned: Sequence[Owned]) -> str:
    shown = ", ".join(f"{_key(each)[0]} {each.full_name}" for each in owned[:SHOWN])
    return shown if len(owned) <= SHOWN else f"{shown} and {len(owned) - SHOWN} more"


def _forget(session: Session, user: Account, *, is_own: bool) -> None:
    """Take away all that is the user's, by the rules of each reference to accounts; keep the id and the name's key."""
    mine = select(Like.repository_id).where(Like.account_id == user.id)
    session.execute(update(Repository).where(Repository.id.in_(mine)).values(likes=Repository.likes - 1))
    voted = select(CollectionUpvote.collection_id).where(CollectionUpvote.account_id == user.id)
    session.execute(update(Collection).where(Collection.id.in_(voted)).values(upvotes=Collection.upvotes - 1))
    for table in Table.metadata.sorted_tables:
        for reference in table.foreign_keys:
            if reference.column is not Account.__table__.c.id or reference.ondelete is None:
                continue
            rows: ColumnElement[bool] = reference.parent == user.id
            if reference.ondelete == "CASCADE":
                session.execute(delete(table).where(rows))
            else:
                session.execute(update(table).where(rows).values({reference.parent: None}))
    pseudonym = f"deleted-{user.id}"
    reported = and_(ModerationCase.kind == ReportedKind.ACCOUNT, ModerationCase.target_id == user.id)
    session.execute(update(ModerationCase).where(reported).values(name=pseudonym))
    _rename_in_log(session, user.name, pseudonym)
    session.add(Event(kind="user.deleted", actor=pseudonym if is_own else None, data={"name": pseudonym}))
    user.kind, user.name, user.fullname = AccountKind.DELETED, pseudonym, pseudonym
    user.email = user.language = user.password_hash = user.quota = None
    user.bio = user.website = ""
    user.is_admin, user.disabled = False, True


def _rename_in_log(session: Session, name: str, pseudonym: str) -> None:
    pattern = re.compile(rf"(?:^|(?<= )){re.escape(name)}(?=/|$)", re.IGNORECASE)

    def renamed(value: Any) -> Any:
        if isinstance(value, list):
            return [renamed(each) for each in value]
        return pattern.sub(pseudonym, value) if isinstance(value, str) else value

    said = cast(Event.data, String).icontains(name, autoescape=True)
    for event in session.scalars(select(Event).where(or_(Event.actor == name, said))).all():
        if event.actor == name:
            event.actor = pseudonym
        named = ("user",) if event.kind.startswith(TOKENS) else NAMED
        event.data = {key: renamed(value) if key in named else value for key, value in event.data.items()}
