"""Signing in with a password, in a browser: its two steps, sessions, and how people come to have an account."""

import hashlib
import hmac
import logging
import re
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from lmcommons.hub.accounts.accounts import check_email, find_user, new_user
from lmcommons.hub.accounts.issuing import digest
from lmcommons.hub.accounts.mail_links import MailLinks, end_links
from lmcommons.hub.accounts.permissions import ANONYMOUS, Actor
from lmcommons.hub.accounts.tokens import load_actor
from lmcommons.hub.accounts.two_factor import TwoFactors
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Account, BrowserSession, Event, Invitation, LinkPurpose, Token, TokenRole, now
from lmcommons.hub.errors import BadRequest, Busy, Conflict, Forbidden, InsufficientStorage, NotFound, Unauthorized
from lmcommons.hub.settings import SignUp

COOKIE = "lmc_session"
SESSION_LIFE = timedelta(days=30)
PASSWORD_LENGTH = (10, 500)  # characters, at least and at most
STEP_LIFE = timedelta(minutes=10)  # between the password and the code
USE_PRECISION = timedelta(minutes=15)  # of `last_used_at`: a write now and then, not one a page
HASHES_AT_ONCE = 2  # each takes 64 MiB and most of a core for a twentieth of a second
TOKEN_NAME = "browser session"  # noqa: S105 - what refusals call it
SHOWN_ID = 16  # characters of a session's hash: enough to name one of an account's

BROWSERS = ("Edg", "OPR", "SamsungBrowser", "Firefox", "Chrome", "Safari")  # each also names those after it
SYSTEMS = ("iPhone", "iPad", "Android", "Windows", "Mac OS X", "CrOS", "Linux")
NAMES = {"Edg": "Edge", "OPR": "Opera", "SamsungBrowser": "Samsung Internet", "Mac OS X": "macOS", "CrOS": "ChromeOS"}

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class SecondStep:
    """The password was right, and a code is asked for: it comes back with this ticket."""

    ticket: str


class SignIn:
    """Passwords (argon2id with the parameters of RFC 9106, 4), browser sessions, and joining the hub."""

    def __init__(
        self, database: Database, policy: SignUp, two_factors: TwoFactors, mail_links: MailLinks, secret: bytes
    ) -> None:
        """`secret` is the hub's: it signs what a browser keeps between the password and the code."""
        self.policy = policy
        self._database = database
        self._two_factors = two_factors
        self._mail_links = mail_links
        self._secret = secret
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
            actor = load_actor(session, found.account, TokenRole.WRITE, TOKEN_NAME)
        if found.last_used_at is None or now() - found.last_used_at > USE_PRECISION:
            self._note_use(found)
        return actor

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
        self.sign_out(former)
        return self._open(user.id, agent)

    def second_step(self, ticket: str, code: str, *, former: str | None = None, agent: str = "") -> str:
        """A new session's cookie, for the ticket of a first step and a code of the authenticator or a recovery code.

        Raises:
            Unauthorized: the code is wrong, or the ticket is too old. TooManyRequests: too many wrong codes.
        """
        user = self._user_of(ticket)
        self._two_factors.check(user.id, code)
        self.sign_out(former)
        return self._open(user.id, agent)

    def name_of(self, ticket: str) -> str:
        """Whose password came with a ticket.

        Raises:
            Unauthorized: it is too old.
        """
        return self._user_of(ticket).name

    def sessions(self, actor: Actor) -> Sequence[BrowserSession]:
        """Where the actor is signed in, the last used first."""
        used = func.coalesce(BrowserSession.last_used_at, BrowserSession.created_at)
        mine = select(BrowserSession).where(
            BrowserSession.account_id == actor.account_id, BrowserSession.expires_at > now()
        )
        with self._database.read() as session:
            return session.scalars(mine.order_by(used.desc())).all()

    def end_session(self, actor: Actor, shown_id: str) -> None:
        """Sign the actor out in one browser.

        Raises:
            NotFound: the actor has no such session.
        """
        mine = BrowserSession.account_id == actor.account_id
        with self._database.write() as session:
            found = [
                each for each in session.scalars(select(BrowserSession).where(mine)) if session_id(each) == shown_id
            ]
            if not found:
                raise NotFound("You have no such session; it may have ended already")
            for each in found:
                session.delete(each)
            session.add(Event(kind="session.ended", actor=actor.name))

    def end_other_sessions(self, actor: Actor, cookie: str | None) -> None:
        """Sign the actor out everywhere but in the browser that has this cookie."""
        with self._database.write() as session:
            others = BrowserSession.sha256 != digest(cookie or "")
            session.execute(delete(BrowserSession).where(BrowserSession.account_id == actor.account_id, others))
            session.add(Event(kind="session.ended", actor=actor.name, data={"others": True}))

    def sign_out(self, cookie: str | None) -> None:
        """End a session, and those that have expired."""
        with self._database.write() as session:
            session.execute(
                delete(BrowserSession).where(
                    (BrowserSession.sha256 == digest(cookie or "")) | (BrowserSession.expires_at <= now())
                )
            )

    # ------------------------------------------------------------ passwords

    def has_password(self, actor: Actor) -> bool:
        """Whether the actor has chosen a password, or was given one."""
        with self._database.read() as session:
            return bool(session.scalar(select(Account.password_hash).where(Account.id == actor.account_id)))

    def set_password(self, name: str, password: str) -> None:
        """Give a user a new password; all the user's sessions, and links that were sent by mail, end.

        Raises:
            NotFound: no such user. BadRequest: the password is too short or too long.
        """
        hashed = self._hash(password)
        with self._database.write() as session:
            _replace_password(session, find_user(session, name), hashed)

    def reset_password(self, code: str, password: str) -> None:
        """Give whom a link for a forgotten password was sent to a new one, as `set_password` does.

        Raises:
            NotFound: the link is not known, was used or has ended. BadRequest: the password is too short or too long.
        """
        self._mail_links.find(code, LinkPurpose.PASSWORD)  # guesses cost no hash
        hashed = self._hash(password)
        with self._database.write() as session:
            _replace_password(session, self._mail_links.take(session, code, LinkPurpose.PASSWORD), hashed)

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
        self.set_password(actor.name, wanted)
        return self._open(actor.account_id, agent)

    # ------------------------------------------------------------ joining

    def invitations(self) -> Sequence[Invitation]:
        """Those that somebody can still use, the newest first."""
        usable = select(Invitation).where(Invitation.expires_at > now(), Invitation.uses_left > 0)
        with self._database.read() as session:
            return session.scalars(usable.order_by(Invitation.created_at.desc())).all()

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
                self._mail_links.give_address(session, user, address)
        except IntegrityError as error:
            raise Conflict("The name {name} is taken", name=name) from error
        return self._open(user.id, agent)

    def _open(self, account_id: int, agent: str) -> str:
        cookie = secrets.token_urlsafe(32)
        opened = BrowserSession(
            sha256=digest(cookie),
            account_id=account_id,
            expires_at=now() + SESSION_LIFE,
            agent=short_agent(agent),
            last_used_at=now(),
        )
        with self._database.write() as session:
            session.add(opened)
        return cookie

    def _note_use(self, found: BrowserSession) -> None:
        try:
            with self._database.write() as session:
                used = update(BrowserSession).where(BrowserSession.sha256 == found.sha256)
                session.execute(used.values(last_used_at=now()))
        except (OperationalError, Busy, InsufficientStorage) as error:
            LOGGER.warning("the last use of a session of %s was not noted: %s", found.account.name, error)

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

    def _hash(self, password: str) -> str:
        least, most = PASSWORD_LENGTH
        if not least <= len(password) <= most:
            raise BadRequest(
                "A password has {least} to {most} characters; this one has {count}",
                least=least,
                most=most,
                count=len(password),
            )
        with self._turn:
            return self._hasher.hash(password)

    def _is_known_by(self, user: Account | None, secret: str) -> bool:
        """Whether this is the user's password; or, where there is none yet, a write token of the user."""
        if self._verify(user.password_hash if user else None, secret):
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


def _replace_password(session: Session, user: Account, hashed: str) -> None:
    user.password_hash = hashed
    session.execute(delete(BrowserSession).where(BrowserSession.account_id == user.id))
    end_links(session, user)
    session.add(Event(kind="user.password", actor=user.name))


def form_secret(cookie: str) -> str:
    """What the forms of a session's pages carry, so that no other site's form can act in its name (CSRF)."""
    return digest(f"form {cookie}")


def is_own_form(cookie: str | None, sent: str) -> bool:
    """Whether a form was filled in on a page of the session."""
    return bool(cookie) and hmac.compare_digest(form_secret(cookie or "").encode(), sent.encode(errors="replace"))


def session_id(found: BrowserSession) -> str:
    """What names a session among its account's; it opens nothing."""
    return found.sha256[:SHOWN_ID]


def invitation_id(found: Invitation) -> str:
    """What names an invitation; it lets nobody in."""
    return found.sha256[:SHOWN_ID]


def short_agent(agent: str) -> str:
    """What a browser's `User-Agent` says to a person: `Firefox · Linux`; of a program, its first word."""
    browser = next((name for name in BROWSERS if f"{name}/" in agent), None)
    system = next((name for name in SYSTEMS if name in agent), None)
    named = [NAMES.get(name, name) for name in (browser, system) if name]
    return " · ".join(named) if browser else " ".join(agent.split())[:80].partition(" ")[0]
