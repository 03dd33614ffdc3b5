"""Sessions of browsers in which somebody signed in: their cookies, whom they speak for, where one is signed in."""

import hmac
import logging
import secrets
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from lmcommons.hub.accounts.issuing import digest
from lmcommons.hub.accounts.permissions import ANONYMOUS, Actor
from lmcommons.hub.accounts.tokens import load_actor
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import BrowserSession, Event, TokenRole, now
from lmcommons.hub.errors import Busy, InsufficientStorage, NotFound

COOKIE = "lmc_session"
SESSION_LIFE = timedelta(days=30)
USE_PRECISION = timedelta(minutes=15)  # of `last_used_at`: a write now and then, not one a page
TOKEN_NAME = "browser session"  # noqa: S105 - what refusals call it
SHOWN_ID = 16  # characters of a session's hash: enough to name one of an account's

BROWSERS = ("Edg", "OPR", "SamsungBrowser", "Firefox", "Chrome", "Safari")  # each also names those after it
SYSTEMS = ("iPhone", "iPad", "Android", "Windows", "Mac OS X", "CrOS", "Linux")
NAMES = {"Edg": "Edge", "OPR": "Opera", "SamsungBrowser": "Samsung Internet", "Mac OS X": "macOS", "CrOS": "ChromeOS"}

LOGGER = logging.getLogger(__name__)


class BrowserSessions:
    """The sessions of a hub's users."""

    def __init__(self, database: Database) -> None:
        self._database = database

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

    def open(self, account_id: int, agent: str) -> str:
        """The cookie of a new session; `agent` is how the browser calls itself."""
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

    def of(self, actor: Actor) -> Sequence[BrowserSession]:
        """Where the actor is signed in, the last used first."""
        with self._database.read() as session:
            return open_sessions(session, actor.account_id)

    def end(self, actor: Actor, shown_id: str) -> None:
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

    def end_others(self, actor: Actor, cookie: str | None) -> None:
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

    def _note_use(self, found: BrowserSession) -> None:
        try:
            with self._database.write() as session:
                used = update(BrowserSession).where(BrowserSession.sha256 == found.sha256)
                session.execute(used.values(last_used_at=now()))
        except (OperationalError, Busy, InsufficientStorage) as error:
            LOGGER.warning("the last use of a session of %s was not noted: %s", found.account.name, error)


def open_sessions(session: Session, account_id: int | None) -> Sequence[BrowserSession]:
    """The sessions of an account, the last used first."""
    used = func.coalesce(BrowserSession.last_used_at, BrowserSession.created_at)
    its = select(BrowserSession).where(BrowserSession.account_id == account_id, BrowserSession.expires_at > now())
    return session.scalars(its.order_by(used.desc())).all()


def form_secret(cookie: str) -> str:
    """What the forms of a session's pages carry, so that no other site's form can act in its name (CSRF)."""
    return digest(f"form {cookie}")


def is_own_form(cookie: str | None, sent: str) -> bool:
    """Whether a form was filled in on a page of the session."""
    return bool(cookie) and hmac.compare_digest(form_secret(cookie or "").encode(), sent.encode(errors="replace"))


def session_id(found: BrowserSession) -> str:
    """What names a session among its account's; it opens nothing."""
    return found.sha256[:SHOWN_ID]


def short_agent(agent: str) -> str:
    """What a browser's `User-Agent` says to a person: `Firefox · Linux`; of a program, its first word."""
    browser = next((name for name in BROWSERS if f"{name}/" in agent), None)
    system = next((name for name in SYSTEMS if name in agent), None)
    named = [NAMES.get(name, name) for name in (browser, system) if name]
    return " · ".join(named) if browser else " ".join(agent.split())[:80].partition(" ")[0]
