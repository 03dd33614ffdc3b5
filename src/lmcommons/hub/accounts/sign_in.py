"""Signing in with a password, in a browser, and its two steps; changing the password."""

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from lmcommons.hub.accounts.accounts import find_user
from lmcommons.hub.accounts.browser_sessions import BrowserSessions
from lmcommons.hub.accounts.issuing import digest
from lmcommons.hub.accounts.mail_links import MailLinks, end_links
from lmcommons.hub.accounts.notices import log_change
from lmcommons.hub.accounts.passwords import Passwords
from lmcommons.hub.accounts.permissions import Actor
from lmcommons.hub.accounts.two_factor import TwoFactors
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Account, BrowserSession, Event, LinkPurpose, Token, TokenRole, now
from lmcommons.hub.errors import Unauthorized

STEP_LIFE = timedelta(minutes=10)  # between the password and the code


@dataclass(frozen=True)
class SecondStep:
    """The password was right, and a code is asked for: it comes back with this ticket."""

    ticket: str


class SignIn:
    """Who knows a password, and what that opens."""

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        browser_sessions: BrowserSessions,
        two_factors: TwoFactors,
        mail_links: MailLinks,
        secret: bytes,
    ) -> None:
        """`secret` is the hub's: it signs what a browser keeps between the password and the code."""
        self._database = database
        self._passwords = passwords
        self._browser_sessions = browser_sessions
        self._two_factors = two_factors
        self._mail_links = mail_links
        self._secret = secret

    # ------------------------------------------------------------ two steps

    def sign_in(self, name: str, password: str, *, former: str | None = None, agent: str = "") -> str | SecondStep:
        """A new session's cookie, or the second step of an account that has one; the session of `former` ends.

        Until a user has a password, a write token stands for it: `lmc hub user add` gives one. `agent` is how the
        browser calls itself.

        Raises:
            Unauthorized: the name or the password is wrong; which of the two is not said, by words or by time.
        """
        with self._database.read() as session:
            user = session.scalar(select(Account).where(Account.name_key == name.lower()))
        if not self._is_known_by(user, password) or user is None or user.disabled:
            raise Unauthorized("The name or the password is wrong")
        if self._two_factors.is_on(user.id):
            until = int((now() + STEP_LIFE).timestamp())
            return SecondStep(f"{user.id}.{until}.{self._signature(user, until)}")
        self._browser_sessions.sign_out(former)
        return self._browser_sessions.open(user.id, agent)

    def second_step(self, ticket: str, code: str, *, former: str | None = None, agent: str = "") -> str:
        """A new session's cookie, for the ticket of a first step and a code of the authenticator or a recovery code.

        Raises:
            Unauthorized: the code is wrong, or the ticket is too old. TooManyRequests: too many wrong codes.
        """
        user = self._user_of(ticket)
        self._two_factors.check(user.id, code)
        self._browser_sessions.sign_out(former)
        return self._browser_sessions.open(user.id, agent)

    def name_of(self, ticket: str) -> str:
        """Whose password came with a ticket.

        Raises:
            Unauthorized: it is too old.
        """
        return self._user_of(ticket).name

    # ------------------------------------------------------------ passwords

    def has_password(self, actor: Actor) -> bool:
        """Whether the actor has chosen a password, or was given one."""
        with self._database.read() as session:
            return bool(session.scalar(select(Account.password_hash).where(Account.id == actor.account_id)))

    def set_password(self, name: str, password: str, *, by: Actor | None = None) -> None:
        """Give a user a new password; all the user's sessions, and links that were sent by mail, end.

        `by` is who does it, None the hub's operator.

        Raises:
            NotFound: no such user. BadRequest: the password is too short or too long.
        """
        hashed = self._passwords.hash(password)
        with self._database.write() as session:
            _replace_password(session, find_user(session, name), hashed, by.name if by else None)

    def reset_password(self, code: str, password: str) -> None:
        """Give whom a link for a forgotten password was sent to a new one, as `set_password` does.

        Raises:
            NotFound: the link is not known, was used or has ended. BadRequest: the password is too short or too long.
        """
        self._mail_links.find(code, LinkPurpose.PASSWORD)  # guesses cost no hash
        hashed = self._passwords.hash(password)
        with self._database.write() as session:
            user = self._mail_links.take(session, code, LinkPurpose.PASSWORD)
            _replace_password(session, user, hashed, user.name)

    def require_password(self, actor: Actor, password: str) -> None:
        """Return when it is the actor's password.

        Raises:
            Unauthorized: it is not, or nobody is signed in.
        """
        if actor.name is None:
            raise Unauthorized("You must be signed in to do this")
        with self._database.read() as session:
            user = find_user(session, actor.name)
        if not self._is_known_by(user, password):
            raise Unauthorized("The present password is wrong")

    def turn_off_two_factor(self, actor: Actor, password: str, code: str) -> None:
        """Ask for no code any more; the password and a code are asked for a last time.

        Raises:
            Unauthorized: either is wrong. Conflict: it is off. TooManyRequests: too many wrong codes.
        """
        self.require_password(actor, password)
        self._two_factors.turn_off(actor, code)

    def change_password(self, actor: Actor, present: str, wanted: str, *, agent: str = "") -> str:
        """Replace the actor's own password; return the cookie of a new session, all others end.

        Raises:
            Unauthorized: `present` is not the password. BadRequest: `wanted` is too short or too long.
        """
        self.require_password(actor, present)
        assert actor.name is not None
        assert actor.account_id is not None
        self.set_password(actor.name, wanted, by=actor)
        return self._browser_sessions.open(actor.account_id, agent)

    def _user_of(self, ticket: str) -> Account:
        parts = re.fullmatch(r"(\d{1,18})\.(\d{1,12})\.([0-9a-f]{64})", ticket, re.ASCII)
        if parts is not None and int(parts[2]) > now().timestamp():
            with self._database.read() as session:
                user = session.scalar(select(Account).where(Account.id == int(parts[1]), Account.disabled.is_(False)))
            if user is not None and hmac.compare_digest(self._signature(user, int(parts[2])), parts[3]):
                return user
        raise Unauthorized("Signing in took too long; begin again with your name and password")

    def _signature(self, user: Account, until: int) -> str:
        """Of a ticket; it ends when the password changes."""
        signed = f"second step {user.id} {until} {user.password_hash}"
        return hmac.new(self._secret, signed.encode(), hashlib.sha256).hexdigest()

    def _is_known_by(self, user: Account | None, secret: str) -> bool:
        """Whether this is the user's password; or, where there is none yet, a write token of the user."""
        if self._passwords.verify(user.password_hash if user else None, secret):
            return True
        if user is None or user.password_hash is not None:
            return False
        first = select(Token.id).where(
            Token.sha256 == digest(secret),
            Token.account_id == user.id,
            Token.role == TokenRole.WRITE,
            Token.expires_at.is_(None) | (Token.expires_at > now()),
        )
        with self._database.read() as session:
            return session.scalar(first) is not None


def _replace_password(session: Session, user: Account, hashed: str, by: str | None) -> None:
    user.password_hash = hashed
    session.execute(delete(BrowserSession).where(BrowserSession.account_id == user.id))
    end_links(session, user)
    log_change(session, user, Event(kind="user.password", actor=by, data={"name": user.name}))
