"""Signing in a program that has no browser, by a code that its user enters elsewhere (RFC 8628)."""

import secrets
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from lmcommons.hub.accounts.issuing import TokenPair, digest, issue_pair
from lmcommons.hub.accounts.notices import log_change
from lmcommons.hub.accounts.permissions import Actor
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Account, DeviceLogin, Event, Token, TokenRole, now
from lmcommons.hub.errors import NotFound, Unauthorized

LIFE = timedelta(minutes=15)  # of a code
INTERVAL = timedelta(seconds=5)  # between two questions of one program
LETTERS = "BCDFGHJKLMNPQRSTVWXZ"  # no vowels, no words, nothing that looks like a digit (RFC 8628, 6.1)
TOKEN_NAME = "device login"  # noqa: S105


@dataclass(frozen=True)
class DeviceCodes:
    """What the program keeps for itself, and what its user enters."""

    device: str
    user: str


class DeviceLogins:
    """The logins that wait for their user."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self) -> DeviceCodes:
        """Codes for a program that wants to sign in."""
        letters = [secrets.choice(LETTERS) for _ in range(8)]
        codes = DeviceCodes(secrets.token_urlsafe(32), "".join(letters[:4]) + "-" + "".join(letters[4:]))
        with self._database.write() as session:
            session.execute(delete(DeviceLogin).where(DeviceLogin.expires_at <= now()))
            session.add(
                DeviceLogin(
                    device_sha256=digest(codes.device), user_sha256=_user_digest(codes.user), expires_at=now() + LIFE
                )
            )
        return codes

    def answer(self, actor: Actor, user_code: str, *, approve: bool) -> None:
        """Let the program that shows this code sign in as the actor, or refuse it.

        Raises:
            Unauthorized: nobody is signed in. NotFound: no program waits with this code.
        """
        if actor.is_anonymous:
            raise Unauthorized("You must be signed in to let a program sign in")
        with self._database.write() as session:
            found = session.scalar(select(DeviceLogin).where(DeviceLogin.user_sha256 == _user_digest(user_code)))
            if found is None or found.expires_at <= now() or found.denied or found.account_id is not None:
                raise NotFound("No program waits with this code; it may have been mistyped, used, or be too old")
            if approve:
                found.account_id = actor.account_id
                user = session.get_one(Account, actor.account_id)
                log_change(session, user, Event(kind="device.approved", actor=actor.name))
            else:
                found.denied = True
                session.add(Event(kind="device.denied", actor=actor.name))

    def redeem(self, device_code: str) -> TokenPair | str:
        """The tokens of an approved login, once; else the error of RFC 8628, 3.5."""
        with self._database.write() as session:
            found = session.get(DeviceLogin, digest(device_code))
            if found is None or found.expires_at <= now():
                return "expired_token"
            if found.denied:
                session.delete(found)
                return "access_denied"
            if found.account_id is None:
                return _wait(found)
            return _issue(session, found, found.account_id)


def _wait(found: DeviceLogin) -> str:
    too_soon = found.asked_at is not None and now() - found.asked_at < INTERVAL
    found.asked_at = now()
    return "slow_down" if too_soon else "authorization_pending"


def _issue(session: Session, found: DeviceLogin, account_id: int) -> TokenPair:
    session.delete(found)
    return issue_pair(session, Token(account_id=account_id, name=TOKEN_NAME, role=TokenRole.WRITE))


def _user_digest(user_code: str) -> str:
    """Of a code as people type it: case and separators do not matter."""
    return digest("".join(letter for letter in user_code.upper() if letter.isalpha()))
