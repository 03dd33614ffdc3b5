"""Signing in with a password, in a browser: sessions, and how people come to have an account."""

import hmac
import secrets
import threading
from datetime import timedelta

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError

from lmcommons.hub.accounts.accounts import find_user, new_user
from lmcommons.hub.accounts.issuing import digest
from lmcommons.hub.accounts.permissions import ANONYMOUS, Actor
from lmcommons.hub.accounts.tokens import load_actor
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Account, BrowserSession, Event, Invitation, TokenRole, now
from lmcommons.hub.errors import BadRequest, Conflict, Forbidden, Unauthorized
from lmcommons.hub.settings import SignUp

COOKIE = "lmc_session"
SESSION_LIFE = timedelta(days=30)
PASSWORD_LENGTH = (10, 500)  # characters, at least and at most
HASHES_AT_ONCE = 2  # each takes 64 MiB and most of a core for a twentieth of a second
TOKEN_NAME = "browser session"  # noqa: S105 - what refusals call it


class SignIn:
    """Passwords (argon2id with the parameters of RFC 9106, 4), browser sessions, and joining the hub."""

    def __init__(self, database: Database, policy: SignUp) -> None:
        self.policy = policy
        self._database = database
        self._hasher = PasswordHasher()
        self._turn = threading.Semaphore(HASHES_AT_ONCE)
        self._nobodys_hash = ""

    # ------------------------------------------------------------ sessions

    def actor(self, cookie: str | None) -> Actor:
        """Who a browser's session speaks for, with all the rights of the account; nobody when it has ended."""
        if not cookie:
            return ANONYMOUS
        with self._database.read() as session:
            found = session.get(BrowserSession, digest(cookie))
            if found is None or found.expires_at <= now() or found.account.disabled:
                return ANONYMOUS
            return load_actor(session, found.account, TokenRole.WRITE, TOKEN_NAME)

    def sign_in(self, name: str, password: str, *, former: str | None = None) -> str:
        """A new session's cookie; the session of the cookie `former` ends.

        Raises:
            Unauthorized: the name or the password is wrong; which of the two is not said, by words or by time.
        """
        with self._database.read() as session:
            user = session.scalar(select(Account).where(Account.name_key == name.lower()))
        if not self._verify(user.password_hash if user else None, password) or user is None or user.disabled:
            raise Unauthorized("The name or the password is wrong")
        self.sign_out(former)
        return self._open(user.id)

    def sign_out(self, cookie: str | None) -> None:
        """End a session, and those that have expired."""
        with self._database.write() as session:
            session.execute(
                delete(BrowserSession).where(
                    (BrowserSession.sha256 == digest(cookie or "")) | (BrowserSession.expires_at <= now())
                )
            )

    # ------------------------------------------------------------ passwords

    def set_password(self, name: str, password: str) -> None:
        """Give a user a new password; all the user's sessions end.

        Raises:
            NotFound: no such user. BadRequest: the password is too short or too long.
        """
        hashed = self._hash(password)
        with self._database.write() as session:
            user = find_user(session, name)
            user.password_hash = hashed
            session.execute(delete(BrowserSession).where(BrowserSession.account_id == user.id))
            session.add(Event(kind="user.password", actor=user.name))

    def change_password(self, actor: Actor, present: str, wanted: str) -> str:
        """Replace the actor's own password; return the cookie of a new session, all others end.

        Raises:
            Unauthorized: `present` is not the password. BadRequest: `wanted` is too short or too long.
        """
        if actor.name is None or actor.account_id is None:
            raise Unauthorized("You must be signed in to change a password")
        with self._database.read() as session:
            stored = find_user(session, actor.name).password_hash
        if not self._verify(stored, present):
            raise Unauthorized("The present password is wrong")
        self.set_password(actor.name, wanted)
        return self._open(actor.account_id)

    # ------------------------------------------------------------ joining

    def invite(self, *, uses: int, life: timedelta) -> str:
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
            session.add(Event(kind="invitation.created", data={"uses": uses, "days": life.days}))
        return code

    def join(
        self, name: str, password: str, *, fullname: str | None = None, email: str | None = None, code: str = ""
    ) -> str:
        """Make the account of somebody who joins; return the cookie of their first session.

        Raises:
            Forbidden: the hub takes nobody in, or nobody with this invitation.
            BadRequest: the name or the password is not allowed. Conflict: the name is taken.
        """
        if self.policy is SignUp.CLOSED:
            raise Forbidden("This hub takes in nobody by itself; ask its operator for an account")
        user = new_user(name, fullname, email)
        user.password_hash = self._hash(password)
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
        except IntegrityError as error:
            raise Conflict(f"The name {name} is taken") from error
        return self._open(user.id)

    def _open(self, account_id: int) -> str:
        cookie = secrets.token_urlsafe(32)
        with self._database.write() as session:
            session.add(BrowserSession(sha256=digest(cookie), account_id=account_id, expires_at=now() + SESSION_LIFE))
        return cookie

    def _hash(self, password: str) -> str:
        least, most = PASSWORD_LENGTH
        if not least <= len(password) <= most:
            raise BadRequest(f"A password has {least} to {most} characters; this one has {len(password)}")
        with self._turn:
            return self._hasher.hash(password)

    def _verify(self, stored: str | None, password: str) -> bool:
        """Whether the password is the stored one; takes as long where there is none."""
        if len(password) > PASSWORD_LENGTH[1]:
            return False
        with self._turn:
            if not self._nobodys_hash:
                self._nobodys_hash = self._hasher.hash(secrets.token_urlsafe(32))
            try:
                return self._hasher.verify(stored or self._nobodys_hash, password)
            except (VerifyMismatchError, InvalidHashError):
                return False


def form_secret(cookie: str) -> str:
    """What the forms of a session's pages carry, so that no other site's form can act in its name (CSRF)."""
    return digest(f"form {cookie}")


def is_own_form(cookie: str | None, sent: str) -> bool:
    """Whether a form was filled in on a page of the session."""
    return bool(cookie) and hmac.compare_digest(form_secret(cookie or "").encode(), sent.encode(errors="replace"))
