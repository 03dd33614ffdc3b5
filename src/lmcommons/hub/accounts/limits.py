"""Rate limits: how often one account or address may ask in a fixed window of time.

Counted in this process: with several workers each lets the whole number through.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Network
from typing import Literal

from lmcommons.hub.errors import TooManyRequests

WINDOW = 300  # seconds
KEYS_LIMIT = 100_000  # accounts and addresses counted in one window; further ones are let through
KNOWN_LIMIT = 100_000  # credentials remembered

Kind = Literal["api", "resolvers", "pages"]
FACTORS: dict[Kind, int] = {"api": 1, "resolvers": 10, "pages": 1}  # of the configured number: a clone resolves a lot
SIGN_IN_BY_NAME, SIGN_IN_BY_ADDRESS = 20, 100  # attempts in a window


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
                f"More than {self.quota:,} requests ({self.kind}) in {WINDOW} seconds; wait {self.reset} seconds",
                headers={**self.headers, "Retry-After": str(self.reset)},
            )


class Limits:
    """The counters of this process, emptied when a window ends."""

    def __init__(self, rate: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`rate` is the number of `api` requests in a window of five minutes; 0 is no limit."""
        self._rate = rate
        self._clock = clock
        self._lock = threading.Lock()
        self._window = -1
        self._counts: dict[tuple[str, str], int] = {}
        self._known: dict[str, str] = {}

    def take(self, kind: Kind, caller: str) -> Standing | None:
        """Count a request of an account or address; None where there is no limit."""
        return self._count(kind, caller, self._rate * FACTORS[kind]) if self._rate else None

    def take_sign_in(self, address: str, name: str = "") -> None:
        """Count an attempt to sign in, or to guess another secret, from an address; limited always.

        Raises:
            TooManyRequests: too many for this name, or from this address.
        """
        self._count("sign-in", _network(address), SIGN_IN_BY_ADDRESS).require()
        if name:
            self._count("sign-in", f"name {name.lower()}", SIGN_IN_BY_NAME).require()

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

    def _count(self, kind: str, caller: str, quota: int) -> Standing:
        with self._lock:
            now = self._clock()
            window = int(now // WINDOW)
            if window != self._window:
                self._window, self._counts = window, {}
            key = (kind, caller)
            count = self._counts.get(key, 0) + 1
            if count > 1 or len(self._counts) < KEYS_LIMIT:
                self._counts[key] = count
        reset = int((window + 1) * WINDOW - now) + 1
        return Standing(kind, quota, max(0, quota - count), reset, exceeded=count > quota)


def _network(address: str) -> str:
    """What is counted for an address: of IPv6 the part that a network is given, as its owner has all the rest."""
    host = address.partition("%")[0]
    try:
        return f"address {IPv6Network((host, 64), strict=False)}"
    except ValueError:  # IPv4, or what a proxy wrote
        return f"address {host}"
