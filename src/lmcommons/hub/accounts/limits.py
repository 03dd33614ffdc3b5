"""Rate limits: how often one account or address may ask in a fixed window of time.

The workers of one `lmc hub serve` count together; several hosts count each for itself.
"""

import fcntl
import hashlib
import mmap
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv6Network
from pathlib import Path
from typing import Literal

from lmcommons.files import write_failure
from lmcommons.hub.errors import TooManyRequests
from lmcommons.hub.words import Words

WINDOW = 300  # seconds
SLOTS = 1 << 17  # accounts and addresses counted in one window; where there is no slot, they are let through
PROBES = 16  # slots that one of them may lie in
KNOWN_LIMIT = 100_000  # credentials remembered

Kind = Literal["api", "resolvers", "pages"]
FACTORS: dict[Kind, int] = {"api": 1, "resolvers": 10, "pages": 1}  # of the configured number: a clone resolves a lot
SIGN_IN_BY_NAME, SIGN_IN_BY_ADDRESS = 20, 100  # attempts in a window
MAILS = 3  # to one user or address, in a window


@dataclass(frozen=True)
class Standing:
    """Where one account or address stands: `remaining` of `quota` requests until `reset` seconds from now."""

    kind: str
    quota: int
    remaining: int
    reset: int
    exceeded: bool = False

    @property
    def headers(self) -> dict[str, str]:
        """The protocol's headers (chapter 1; draft-ietf-httpapi-ratelimit-headers-09)."""
        return {
            "RateLimit": f'"{self.kind}";r={self.remaining};t={self.reset}',
            "RateLimit-Policy": f'"fixed window";"{self.kind}";q={self.quota};w={WINDOW}',
        }

    def require(self) -> None:
        """Return when the request was within the limit.

        Raises:
            TooManyRequests: it was not.
        """
        if self.exceeded:
            raise TooManyRequests(
                "More than {quota:,} requests ({kind}) in {window} seconds; wait {reset} seconds",
                quota=self.quota,
                kind=Words(self.kind),
                window=WINDOW,
                reset=self.reset,
                headers={**self.headers, "Retry-After": str(self.reset)},
            )


class Counters:
    """Numbers by key in the present window: a hash table of fixed size, in memory or in a file that processes share.

    A slot is the key's digest and its number; 0 is a free slot. The digest is salted anew in each window, so that
    nobody can choose names that fill the slots of another. The file's lock is held while one changes, and ends with the
    process that holds it.
    """

    _HEAD = struct.Struct("=q16s")  # window, salt
    _SLOT = struct.Struct("=12sI")
    _SIZE = _HEAD.size + SLOTS * _SLOT.size  # bytes

    def __init__(self, path: Path | None) -> None:
        """Count in the file at `path`, which is made; None is this process's memory.

        Raises:
            CommandError: the file cannot be written.
        """
        self._turn = threading.Lock()  # the lock of a file is the whole process's
        self._file = self._open(path) if path else None
        self._map = mmap.mmap(self._file if self._file is not None else -1, self._SIZE)

    def add(self, window: int, key: str, times: int = 1) -> int:
        """How often `key` was added in a window, these times included; a new window begins at nothing."""
        with self._alone():
            present, salt = self._HEAD.unpack_from(self._map)
            if present != window or not any(salt):
                salt = os.urandom(16)
                self._map[:] = bytes(self._SIZE)
                self._HEAD.pack_into(self._map, 0, window, salt)
            digest = hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=12, key=salt).digest()
            first = int.from_bytes(digest[:4], "big")
            for number in range(first, first + PROBES):
                place = self._HEAD.size + number % SLOTS * self._SLOT.size
                known, count = self._SLOT.unpack_from(self._map, place)
                if known == digest or not count:
                    self._SLOT.pack_into(self._map, place, digest, count + times)
                    return int(count) + times
        return times

    def _open(self, path: Path) -> int:
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.posix_fallocate(file, 0, self._SIZE)  # a full disk is told here, and not by a signal later
        except OSError as error:
            raise write_failure(path, error) from error
        return file

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._turn:
            if self._file is None:
                yield
                return
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)


class Limits:
    """Who asked how often."""

    def __init__(self, rate: int, file: Path | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """`rate` is the number of `api` requests in a window of five minutes; 0 is no limit. Processes count together
        that are given the same `file`.
        """
        self._rate = rate
        self._clock = clock
        self._counters = Counters(file)
        self._lock = threading.Lock()
        self._known: dict[str, str] = {}

    def take(self, kind: Kind, caller: str) -> Standing | None:
        """Count a request of an account or address; None where there is no limit."""
        return self._count(kind, caller, self._rate * FACTORS[kind]) if self._rate else None

    def take_sign_in(self, address: str, name: str = "", *, attempts: int = 1) -> None:
        """Count an attempt to sign in, or to guess another secret, from an address; limited always.

        With no `attempts` nothing is counted: those before may have been too many.

        Raises:
            TooManyRequests: too many for this name, or from this address.
        """
        self._count("sign-in", _network(address), SIGN_IN_BY_ADDRESS, attempts).require()
        if name:
            self._count("sign-in", f"name {name.lower()}", SIGN_IN_BY_NAME, attempts).require()

    def take_mail(self, *whom: str) -> None:
        """Count a mail that somebody asks to be sent, for each of these names and addresses; limited always.

        Raises:
            TooManyRequests: too many for one of them.
        """
        for each in filter(None, map(str.strip, whom)):
            self._count("mail", each.lower(), MAILS).require()

    def caller(self, credentials: str, address: str) -> str:
        """Who is counted: the account of known credentials (their hash), else the address.

        So guessing tokens counts against the address.
        """
        return self._known.get(credentials) or _network(address)

    def remember(self, credentials: str, account_id: int) -> None:
        """These credentials (their hash) were right and are those of the account."""
        with self._lock:
            if len(self._known) >= KNOWN_LIMIT:
                self._known.clear()
            self._known[credentials] = f"account {account_id}"

    def _count(self, kind: str, caller: str, quota: int, times: int = 1) -> Standing:
        now = self._clock()
        window = int(now // WINDOW)
        count = self._counters.add(window, f"{kind} {caller}", times)
        reset = int((window + 1) * WINDOW - now) + 1
        return Standing(kind, quota, max(0, quota - count), reset, exceeded=count > quota)


def _network(address: str) -> str:
    """What is counted for an address: of IPv6 the part that a network is given, as its owner has all the rest."""
    host = address.partition("%")[0]
    try:
        return f"address {IPv6Network((host, 64), strict=False)}"
    except ValueError:  # IPv4, or what a proxy wrote
        return f"address {host}"
