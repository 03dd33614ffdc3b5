"""A second factor of sign-in: time-based one-time passwords (RFC 6238) and recovery codes.

The secret that an authenticator is given follows from the hub's secret and a salt in the database, so that a copy of
the database makes no codes. Programs go on with their tokens: only signing in with a password asks for a code.
"""

import hashlib
import hmac
import secrets
import time
from base64 import b32encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import pyotp
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from lmcommons.hub.accounts.accounts import find_user
from lmcommons.hub.accounts.issuing import digest
from lmcommons.hub.accounts.notices import log_change
from lmcommons.hub.accounts.permissions import Actor
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Account, Event, RecoveryCode, TwoFactor, now
from lmcommons.hub.errors import Conflict, TooManyRequests, Unauthorized

STEP = 30  # seconds that a code is shown
DRIFT = 1  # steps that an authenticator's clock may be off (RFC 6238, 5.2)
SECRET_SIZE = 20  # bytes, the size of HMAC-SHA-1's result (RFC 4226, 4)
FREE_FAILURES = 5  # wrong codes before the first wait
LONGEST_WAIT = timedelta(hours=1)
RECOVERY_CODES, RECOVERY_BYTES = 10, 10  # each of 80 random bits
ISSUER = "LM Commons"

T = TypeVar("T")


class WrongCode(Unauthorized):
    """A code that is none, or was used before."""

    def __init__(self) -> None:
        super().__init__("The code is wrong, too old, or was used before; wait for the next one")


@dataclass(frozen=True)
class Enrolment:
    """What an authenticator is given: the secret in base 32, and both in the address that its camera reads."""

    secret: str
    uri: str


class TwoFactors:
    """The second factors of a hub."""

    def __init__(self, database: Database, secret: bytes, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._secret = secret
        self._clock = clock

    def is_on(self, account_id: int) -> bool:
        """Whether signing in to the account asks for a code."""
        with self._database.read() as session:
            return _confirmed(session, account_id) is not None

    def recovery_codes_left(self, account_id: int) -> int:
        """How many recovery codes were not used yet."""
        with self._database.read() as session:
            return session.scalar(select(func.count()).where(RecoveryCode.account_id == account_id)) or 0

    def begin(self, actor: Actor) -> Enrolment:
        """A new secret for the actor's authenticator; a code made with it turns the second factor on.

        Each time another one: who was shown it in somebody's browser must not know what is confirmed later.

        Raises:
            Unauthorized: nobody is signed in. Conflict: it is on already.
        """
        account_id = _own_id(actor)
        with self._database.write() as session:
            found = session.get(TwoFactor, account_id)
            if found is not None and found.confirmed_at is not None:
                raise Conflict("Two-factor sign-in is on already; turn it off to use another authenticator")
            if found is None:
                found = TwoFactor(account_id=account_id)
                session.add(found)
            found.salt = secrets.token_hex(16)
            return self._enrolment(found, actor)

    def begun(self, actor: Actor) -> Enrolment:
        """The secret that waits to be confirmed.

        Raises:
            Unauthorized: nobody is signed in. Conflict: none waits.
        """
        with self._database.read() as session:
            found = session.get(TwoFactor, _own_id(actor))
            if found is None or found.confirmed_at is not None:
                raise Conflict("There is no authenticator to confirm; begin again")
            return self._enrolment(found, actor)

    def confirm(self, actor: Actor, code: str) -> list[str]:
        """Turn the second factor on; return the recovery codes, which are shown this once.

        Raises:
            Unauthorized: the code is wrong, or nobody is signed in. Conflict: it is on, or was not begun.
        """
        account_id = _own_id(actor)

        def turn_on(session: Session) -> list[str]:
            found = session.get(TwoFactor, account_id)
            if found is None or found.confirmed_at is not None:
                raise Conflict("There is no authenticator to confirm; begin again")
            self._use_time_code(found, code)
            found.confirmed_at = now()
            log_change(session, session.get_one(Account, account_id), Event(kind="two_factor.on", actor=actor.name))
            return _new_recovery_codes(session, account_id)

        return self._counting(account_id, turn_on)

    def check(self, account_id: int, code: str) -> None:
        """Return when `code` is one of the authenticator, or a recovery code; neither works a second time.

        Raises:
            Unauthorized: it is not. TooManyRequests: too many wrong ones; recovery codes work all the same.
        """
        self._counting(account_id, lambda session: self._use(session, account_id, code))

    def renew_recovery_codes(self, actor: Actor, code: str) -> list[str]:
        """New recovery codes in place of the former; asks for a code."""
        account_id = _own_id(actor)

        def renew(session: Session) -> list[str]:
            self._use(session, account_id, code)
            session.add(Event(kind="two_factor.codes", actor=actor.name))
            return _new_recovery_codes(session, account_id)

        return self._counting(account_id, renew)

    def turn_off(self, actor: Actor, code: str) -> None:
        """Sign in without a code from now on; `SignIn.turn_off_two_factor` asks for the password too."""
        account_id = _own_id(actor)

        def turn_off(session: Session) -> None:
            self._use(session, account_id, code)
            _remove(session, account_id)
            log_change(session, session.get_one(Account, account_id), Event(kind="two_factor.off", actor=actor.name))

        self._counting(account_id, turn_off)

    def reset(self, name: str, by: Actor | None = None) -> None:
        """Turn the second factor of a user off, who lost the authenticator and the recovery codes; for the operator.

        Raises:
            NotFound: no such user. Conflict: it is off.
        """
        with self._database.write() as session:
            user = find_user(session, name)
            if session.get(TwoFactor, user.id) is None:
                raise Conflict("{user} has no two-factor sign-in to reset", user=user.name)
            _remove(session, user.id)
            reset = Event(kind="two_factor.reset", actor=by and by.name, data={"name": user.name})
            log_change(session, user, reset)

    def _counting(self, account_id: int, work: Callable[[Session], T]) -> T:
        """Do `work` in a transaction; a wrong code is counted, although all else that the work did is undone."""
        try:
            with self._database.write() as session:
                return work(session)
        except WrongCode:
            with self._database.write() as session:
                found = session.get(TwoFactor, account_id)
                if found is not None:
                    found.failures += 1
                    if found.failures >= FREE_FAILURES:
                        wait = timedelta(minutes=2 ** min(found.failures - FREE_FAILURES, 10))
                        found.next_at = now() + min(wait, LONGEST_WAIT)
            raise

    def _use(self, session: Session, account_id: int, code: str) -> None:
        found = _confirmed(session, account_id)
        if found is None:
            raise Conflict("Two-factor sign-in is off")
        recovery = session.get(RecoveryCode, digest(_bare(code)))
        if recovery is not None and recovery.account_id == account_id:
            session.delete(recovery)
            session.add(Event(kind="two_factor.recovery", actor=session.get_one(Account, account_id).name))
            found.failures, found.next_at = 0, None
            return
        self._use_time_code(found, code)

    def _use_time_code(self, found: TwoFactor, code: str) -> None:
        if found.next_at is not None and found.next_at > now():
            seconds = int((found.next_at - now()).total_seconds()) + 1
            raise TooManyRequests(
                "Too many wrong codes; wait {wait} seconds, or use a recovery code",
                wait=seconds,
                headers={"Retry-After": str(seconds)},
            )
        generator = pyotp.TOTP(self._secret_of(found), interval=STEP)
        present = int(self._clock()) // STEP
        for step in range(present - DRIFT, present + DRIFT + 1):
            # A step that was used is refused (RFC 6238, 5.2): whoever saw a code typed cannot use it again.
            if step > found.last_step and hmac.compare_digest(generator.generate_otp(step), _bare(code)):
                found.last_step, found.failures, found.next_at = step, 0, None
                return
        raise WrongCode

    def _enrolment(self, found: TwoFactor, actor: Actor) -> Enrolment:
        secret = self._secret_of(found)
        uri = pyotp.TOTP(secret, interval=STEP).provisioning_uri(name=actor.name or "", issuer_name=ISSUER)
        return Enrolment(secret, uri)

    def _secret_of(self, found: TwoFactor) -> str:
        salted = f"two-factor {found.account_id} {found.salt}".encode()
        return b32encode(hmac.digest(self._secret, salted, hashlib.sha256)[:SECRET_SIZE]).decode()


def _own_id(actor: Actor) -> int:
    if actor.account_id is None:
        raise Unauthorized("You must be signed in to change how you sign in")
    return actor.account_id


def _confirmed(session: Session, account_id: int) -> TwoFactor | None:
    found = session.get(TwoFactor, account_id)
    return found if found is not None and found.confirmed_at is not None else None


def _remove(session: Session, account_id: int) -> None:
    session.execute(delete(RecoveryCode).where(RecoveryCode.account_id == account_id))
    session.execute(delete(TwoFactor).where(TwoFactor.account_id == account_id))


def _new_recovery_codes(session: Session, account_id: int) -> list[str]:
    session.execute(delete(RecoveryCode).where(RecoveryCode.account_id == account_id))
    codes = [b32encode(secrets.token_bytes(RECOVERY_BYTES)).decode().lower() for _ in range(RECOVERY_CODES)]
    session.add_all(RecoveryCode(sha256=digest(code), account_id=account_id) for code in codes)
    return ["-".join(code[start : start + 4] for start in range(0, len(code), 4)) for code in codes]


def _bare(code: str) -> str:
    """A code as people type it: spaces, hyphens and case do not matter."""
    return "".join(letter for letter in code[:100].lower() if letter.isascii() and letter.isalnum())
