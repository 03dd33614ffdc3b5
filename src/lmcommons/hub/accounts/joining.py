"""How people come to have an account by themselves: joining, and the invitations that some hubs ask for."""

import secrets
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError

from lmcommons.hub.accounts.accounts import check_email, new_user
from lmcommons.hub.accounts.browser_sessions import BrowserSessions
from lmcommons.hub.accounts.issuing import digest
from lmcommons.hub.accounts.mail_links import MailLinks
from lmcommons.hub.accounts.passwords import Passwords
from lmcommons.hub.accounts.permissions import Actor
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Event, Invitation, now
from lmcommons.hub.errors import BadRequest, Conflict, Forbidden, NotFound
from lmcommons.hub.settings import SignUp

SHOWN_ID = 16  # characters of an invitation's hash: enough to name one of the hub's


class Joining:
    """Who may make an account, by the operator's `policy`."""

    def __init__(
        self,
        database: Database,
        policy: SignUp,
        passwords: Passwords,
        browser_sessions: BrowserSessions,
        mail_links: MailLinks,
    ) -> None:
        self.policy = policy
        self._database = database
        self._passwords = passwords
        self._browser_sessions = browser_sessions
        self._mail_links = mail_links

    def invitations(self) -> Sequence[Invitation]:
        """Those that somebody can still use, the newest first."""
        usable = select(Invitation).where(Invitation.expires_at > now(), Invitation.uses_left > 0)
        with self._database.read() as session:
            return session.scalars(usable.order_by(Invitation.created_at.desc())).all()

    def invite(self, *, uses: int, life: timedelta, by: Actor | None = None) -> str:
        """The code of a new invitation, which so many people may use until it ends.

        Raises:
            BadRequest: nobody could use it.
        """
        if uses < 1 or life <= timedelta():
            raise BadRequest("An invitation needs at least one use and one day")
        code = secrets.token_urlsafe(24)
        with self._database.write() as session:
            session.execute(delete(Invitation).where(Invitation.expires_at <= now()))
            session.add(Invitation(sha256=digest(code), uses_left=uses, expires_at=now() + life))
            told = {"uses": uses, "days": life.days}
            session.add(Event(kind="invitation.created", actor=by and by.name, data=told))
        return code

    def end_invitation(self, shown_id: str, *, by: Actor | None = None) -> None:
        """End an invitation before it ends by itself.

        Raises:
            NotFound: there is none.
        """
        with self._database.write() as session:
            found = [each for each in session.scalars(select(Invitation)) if invitation_id(each) == shown_id]
            if not found:
                raise NotFound("There is no such invitation; it may be used up or have ended")
            for each in found:
                session.delete(each)
            session.add(Event(kind="invitation.ended", actor=by and by.name))

    def join(
        self,
        name: str,
        password: str,
        *,
        fullname: str | None = None,
        email: str | None = None,
        language: str | None = None,
        code: str = "",
        agent: str = "",
    ) -> str:
        """Make the account of somebody who joins; return the cookie of their first session.

        `code` is that of an invitation, `language` what the pages and mail are in.

        Raises:
            Forbidden: the hub takes nobody in, or nobody with this invitation.
            BadRequest: the name, the password or the address is not allowed. Conflict: the name is taken.
        """
        if self.policy is SignUp.CLOSED:
            raise Forbidden("This hub takes in nobody by itself; ask its operator for an account")
        user, address = new_user(name, fullname, None), check_email(email)
        user.language = language
        user.password_hash = self._passwords.hash(password)
        try:
            with self._database.write() as session:
                if self.policy is SignUp.INVITE:
                    invitation = session.get(Invitation, digest(code))
                    if invitation is None or invitation.uses_left < 1 or invitation.expires_at <= now():
                        raise Forbidden("The invitation is not known, used up or too old; ask for another one")
                    invitation.uses_left -= 1
                session.add(user)
                session.flush()
                session.add(Event(kind="user.joined", actor=user.name))
                self._mail_links.give_address(session, user, address)
        except IntegrityError as error:
            raise Conflict("The name {name} is taken", name=name) from error
        return self._browser_sessions.open(user.id, agent)


def invitation_id(found: Invitation) -> str:
    """What names an invitation; it lets nobody in."""
    return found.sha256[:SHOWN_ID]
