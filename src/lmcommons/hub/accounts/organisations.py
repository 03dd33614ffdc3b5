"""Organisations: who makes them, and who is a member with which role."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, delete, func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from lmcommons.hub.accounts.accounts import find_account, find_user, new_organisation
from lmcommons.hub.accounts.permissions import Action, Actor, allowed, require
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Account, AccountKind, Event, Membership, OrganisationInvitation, Role
from lmcommons.hub.errors import Conflict, Forbidden, NotFound, Unauthorized

LOGGED = ("created", "member", "invited", "withdrawn", "declined")


class Organisations:
    """The organisations of a hub. Where an `actor` may be None, that is the hub's operator."""

    def __init__(self, database: Database, *, by_members: bool) -> None:
        """`by_members`: whether every user may make organisations, and not only the hub's administrators."""
        self._database = database
        self._by_members = by_members

    def find(self, name: str) -> Account:
        """The organisation of that name, in any case.

        Raises:
            NotFound: there is none.
        """
        with self._database.read() as session:
            return find_account(session, name, AccountKind.ORGANISATION)

    def of(self, user_id: int) -> list[tuple[Account, Role]]:
        """The organisations that a user is a member of, by name."""
        with self._database.read() as session:
            rows = session.execute(
                select(Account, Membership.role)
                .join(Membership, Membership.organisation_id == Account.id)
                .where(Membership.user_id == user_id)
                .order_by(Account.name_key)
            )
            return [(account, Role(role)) for account, role in rows]

    def namespaces(self, actor: Actor) -> list[Account]:
        """Where the actor may make repositories: the own account, then organisations by name."""
        if actor.account_id is None:
            return []
        with self._database.read() as session:
            own = session.get(Account, actor.account_id)
        accounts = [own, *(team for team, _ in self.of(actor.account_id))]
        return [each for each in accounts if each is not None and allowed(actor, Action.CREATE, each)]

    def members(
        self, organisation_id: int, text: str = "", *, offset: int = 0, limit: int | None = None
    ) -> list[tuple[Account, Role]]:
        """The members of an organisation with `text` in their names, by name."""
        chosen = select(Account, Membership.role).join(Membership, Membership.user_id == Account.id)
        chosen = chosen.where(*_members(organisation_id, text)).order_by(Account.name_key)
        with self._database.read() as session:
            rows = session.execute(chosen.offset(offset).limit(limit))
            return [(account, Role(role)) for account, role in rows]

    def number_of_members(self, organisation_id: int, text: str = "") -> int:
        """How many members `members` lists when it lists all."""
        counted = select(func.count()).join_from(Membership, Account, Account.id == Membership.user_id)
        with self._database.read() as session:
            return session.scalar(counted.where(*_members(organisation_id, text))) or 0

    def create(
        self, actor: Actor, name: str, *, fullname: str | None = None, private_by_default: bool = False
    ) -> Account:
        """Make an organisation whose first member and admin is the actor.

        Raises:
            Unauthorized: nobody is signed in.
            Forbidden: only the operator makes organisations here, or the token may not.
            BadRequest: the name is not allowed. Conflict: it is taken.
        """
        if actor.name is None:
            raise Unauthorized("You must be signed in to make an organisation; send a token with write access")
        with self._database.read() as session:
            require(actor, Action.ADMINISTER, find_user(session, actor.name))
        if not self._by_members and not actor.is_admin:
            raise Forbidden("On this hub only the operator makes organisations; ask for yours")
        first = [(actor.name, Role.ADMIN)]
        return self.add(name, fullname=fullname, members=first, private_by_default=private_by_default, actor=actor)

    def add(
        self,
        name: str,
        *,
        fullname: str | None = None,
        members: Sequence[tuple[str, Role]] = (),
        private_by_default: bool = False,
        actor: Actor | None = None,
    ) -> Account:
        """Make an organisation whose members are users with their roles; `create` asks whether the actor may.

        Raises:
            BadRequest: the name is not allowed. Conflict: it is taken. NotFound: a member is no user.
        """
        organisation = new_organisation(name, fullname)
        organisation.private_by_default = private_by_default
        try:
            with self._database.write() as session:
                session.add(organisation)
                session.flush()
                for user, role in members:
                    user_id = find_user(session, user).id
                    session.merge(Membership(organisation_id=organisation.id, user_id=user_id, role=role))
                told = {"name": name, "members": [list(member) for member in members]}
                session.add(Event(kind="organisation.created", actor=actor and actor.name, data=told))
        except IntegrityError as error:
            raise Conflict("The name {name} is taken", name=name) from error
        return organisation

    def set_member(
        self, actor: Actor | None, organisation: str, user: str, role: Role | None, *, joining: bool = True
    ) -> Account:
        """Make a user a member with a role, or change the role; None ends the membership, which members may do alone.

        `joining`: whether who is no member becomes one unasked; pages invite instead (`OrganisationInvitations`).

        Returns:
            The user.

        Raises:
            Unauthorized, Forbidden: the actor does not administer the organisation.
            NotFound: no such organisation or user, or no such member.
            Conflict: the organisation would be left without an admin.
        """
        with self._database.write() as session:
            team = find_account(session, organisation, AccountKind.ORGANISATION)
            member = find_user(session, user)
            if actor is not None and role is None and actor.account_id == member.id:
                require(actor, Action.MANAGE, member)
            elif actor is not None:
                require(actor, Action.ADMINISTER, team)
            membership = session.get(Membership, (team.id, member.id))
            former = membership.role if membership else None
            if former is None and (role is None or not joining):
                raise NotFound("{member} is no member of {team}", member=member.name, team=team.name)
            if former is Role.ADMIN and role is not Role.ADMIN:
                require_other_admin(session, team, member)
            if role is None:
                session.delete(membership)
            else:
                session.merge(Membership(organisation_id=team.id, user_id=member.id, role=role))
                _end_invitation(session, team, member)
            if role is not former:
                told = {"name": team.name, "user": member.name, "role": role, "former": former}
                session.add(Event(kind="organisation.member", actor=actor and actor.name, data=told))
        return member

    def membership_log(self, actor: Actor, organisation: str, *, offset: int = 0, limit: int = 30) -> Sequence[Event]:
        """Who was invited, became a member, got another role or left, and by whom; the last first.

        Raises:
            Unauthorized, Forbidden: the actor does not administer the organisation. NotFound: there is none.
        """
        with self._database.read() as session:
            team = find_account(session, organisation, AccountKind.ORGANISATION)
            require(actor, Action.ADMINISTER, team)
            told = Event.kind.in_([f"organisation.{kind}" for kind in LOGGED])
            chosen = select(Event).where(told, Event.data["name"].as_string() == team.name).order_by(Event.id.desc())
            return session.scalars(chosen.offset(offset).limit(limit)).all()


def _members(organisation_id: int, text: str) -> list[ColumnElement[bool]]:
    """Which memberships, joined with their users, are of an organisation and of users called so."""
    named = (column.icontains(text, autoescape=True) for column in (Account.name_key, Account.fullname))
    return [Membership.organisation_id == organisation_id, *([or_(*named)] if text else [])]


def _end_invitation(session: Session, team: Account, user: Account) -> None:
    """End the invitation of a user who has become a member, where there is one."""
    both = (OrganisationInvitation.organisation_id == team.id, OrganisationInvitation.user_id == user.id)
    session.execute(delete(OrganisationInvitation).where(*both))


def require_other_admin(session: Session, team: Account, user: Account) -> None:
    """Return when somebody else who can sign in administers the organisation.

    Raises:
        Conflict: nobody does.
    """
    others = (
        select(func.count())
        .join_from(Membership, Account, Account.id == Membership.user_id)
        .where(
            Membership.organisation_id == team.id,
            Membership.role == Role.ADMIN,
            Membership.user_id != user.id,
            Account.disabled.is_(False),
        )
    )
    if not session.scalar(others):
        raise Conflict(
            "{user} is the last admin of {team}; make another member admin first", user=user.name, team=team.name
        )
