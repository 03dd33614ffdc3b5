"""Passwords as they are stored: argon2id with the parameters of RFC 9106, 4."""

import secrets
import threading

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from lmcommons.hub.errors import BadRequest

PASSWORD_LENGTH = (10, 500)  # characters, at least and at most
HASHES_AT_ONCE = 2  # each takes 64 MiB and most of a core for a twentieth of a second


class Passwords:
    """Makes hashes of passwords and compares with them, a few at once."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        self._turn = threading.Semaphore(HASHES_AT_ONCE)
        self._nobodys_hash = ""

    def hash(self, password: str) -> str:
        """What is stored of a new password.

        Raises:
            BadRequest: it is too short or too long.
        """
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

    def verify(self, stored: str | None, password: str) -> bool:
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
