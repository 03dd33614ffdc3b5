"""Invitations to organisations: an admin asks, and nobody becomes a member who has not said yes."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from lmcommons.hub.accounts.accounts import find_account, find_own, find_user
from lmcommons.hub.accounts.permissions import Action, Actor, require
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Account, AccountKind, Event, Membership, OrganisationInvitation, Role, now
from lmcommons.hub.errors import Conflict, NotFound

DECLINED = "organisation.declined"
WAITING_LIMIT = 100  # invitations of one organisation that are not answered
PAUSE = timedelta(days=30)  # after somebody declined, until the same organisation may ask again


class OrganisationInvitations:
    """The invitations of a hub's organisations that wait for an answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of_user(self, actor: Actor) -> Sequence[OrganisationInvitation]:
        """Those that the actor can answer, the newest first."""
        mine = OrganisationInvitation.user_id == actor.account_id
        with self._database.read() as session:
            chosen = select(OrganisationInvitation).where(mine).order_by(OrganisationInvitation.id.desc())
            return session.scalars(chosen).all()

    def of_organisation(self, actor: Actor, organisation: str) -> Sequence[OrganisationInvitation]:
        """Those of an organisation, the newest first.

        Raises:
            Unauthorized, Forbidden: the actor does not administer the organisation. NotFound: there is none.
        """
        with self._database.read() as session:
            team = _administered(session, actor, organisation)
            of_team = OrganisationInvitation.organisation_id == team.id
            chosen = select(OrganisationInvitation).where(of_team).order_by(OrganisationInvitation.id.desc())
            return session.scalars(chosen).all()

    def invite(self, actor: Actor, organisation: str, user: str, role: Role) -> None:
        """Ask a user to become a member with a role; the user is told in the pages, and by mail.

        Raises:
            Unauthorized, Forbidden: the actor does not administer the organisation.
            NotFound: no such organisation or user.
            Conflict: the user is a member or invited already, declined not long ago, or too many invitations wait.
        """
        with self._database.write() as session:
            team = _administered(session, actor, organisation)
            invited = find_user(session, user)
            if session.get(Membership, (team.id, invited.id)) is not None:
                raise Conflict("{user} is a member of {team} already", user=invited.name, team=team.name)
            if _find(session, team, invited) is not None:
                raise Conflict(
                    "{user} is invited to {team} already; to offer another role, take the invitation back first",
                    user=invited.name,
                    team=team.name,
                )
            if (declined := _declined(session, team, invited)) is not None:
                raise Conflict(
                    "{user} declined an invitation to {team}, and can be invited again after {day}",
                    user=invited.name,
                    team=team.name,
                    day=f"{declined + PAUSE:%Y-%m-%d}",
                )
            waiting = select(func.count()).where(OrganisationInvitation.organisation_id == team.id)
            if (session.scalar(waiting) or 0) >= WAITING_LIMIT:
                raise Conflict(
                    "{count} invitations to {team} wait for an answer; take some back first",
                    count=WAITING_LIMIT,
                    team=team.name,
                )
            session.add(
                OrganisationInvitation(
                    organisation_id=team.id,
                    user_id=invited.id,
                    inviter_id=actor.account_id,
                    role=role,
                    mail_at=now() if invited.email else None,
                )
            )
            told = {"name": team.name, "user": invited.name, "role": role}
            session.add(Event(kind="organisation.invited", actor=actor.name, data=told))

    def withdraw(self, actor: Actor, organisation: str, user: str) -> None:
        """Take an invitation back.

        Raises:
            Unauthorized, Forbidden: the actor does not administer the organisation.
            NotFound: no such organisation, user or invitation.
        """
        with self._database.write() as session:
            team = _administered(session, actor, organisation)
            invited = find_user(session, user)
            session.delete(_found(session, team, invited))
            told = {"name": team.name, "user": invited.name}
            session.add(Event(kind="organisation.withdrawn", actor=actor.name, data=told))

    def answer(self, actor: Actor, organisation: str, *, accept: bool) -> None:
        """Become a member with the role that was offered, or decline.

        Raises:
            Unauthorized: nobody is signed in. Forbidden: the token may not.
            NotFound: no such organisation, or it did not invite the actor.
        """
        with self._database.write() as session:
            user = find_own(session, actor)
            team = find_account(session, organisation, AccountKind.ORGANISATION)
            invitation = _found(session, team, user)
            session.delete(invitation)
            told = {"name": team.name, "user": user.name, "role": invitation.role}
            if accept:
                session.merge(Membership(organisation_id=team.id, user_id=user.id, role=invitation.role))
                session.add(Event(kind="organisation.member", actor=user.name, data={**told, "former": None}))
            else:
                session.add(Event(kind=DECLINED, actor=user.name, data=told))


def _administered(session: Session, actor: Actor, name: str) -> Account:
    team = find_account(session, name, AccountKind.ORGANISATION)
    require(actor, Action.ADMINISTER, team)
    return team


def _find(session: Session, team: Account, user: Account) -> OrganisationInvitation | None:
    both = (OrganisationInvitation.organisation_id == team.id, OrganisationInvitation.user_id == user.id)
    return session.scalar(select(OrganisationInvitation).where(*both))


def _declined(session: Session, team: Account, user: Account) -> datetime | None:
    """When the user last declined to join the team, where that was not long ago; the log remembers it."""
    answers = select(func.max(Event.at)).where(
        Event.name_key == team.name_key, Event.kind == DECLINED, Event.actor == user.name, Event.at > now() - PAUSE
    )
    return session.scalar(answers)


def _found(session: Session, team: Account, user: Account) -> OrganisationInvitation:
    found = _find(session, team, user)
    if found is None:
        raise NotFound(
            "{user} is not invited to {team}; the invitation may have been taken back", user=user.name, team=team.name
        )
    return found
