"""Requests to addresses that members name, so that nobody reaches the hub's own network through them.

The name is resolved once, every address it has must be public, and the connection goes to one of those very addresses:
what the name says a moment later does not matter. Redirections are answers like any other and are not followed.
"""

import ipaddress
import socket
import ssl
import threading
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import SplitResult, urlsplit

from lmcommons.hub.errors import Malformed

URL_LIMIT = 2_000  # characters
TIMEOUT = 10.0  # seconds for the whole exchange
ADDRESSES = 3  # of a name that are tried
ANSWER_LIMIT = 64 << 10  # bytes of an answer that are read

Found = list[Any]  # what `socket.getaddrinfo` returns: tuples that end with an address

UNICAST = ipaddress.ip_network("2000::/3")
ASSIGNED = ipaddress.ip_network("192.0.0.0/24")  # protocols' own, some clouds' metadata; older Pythons call it global
SIX_TO_FOUR = ipaddress.ip_network("2002::/16")  # leads to an IPv4 address of its sender's choice


class RefusedAddressError(Malformed):
    """The URL cannot be used, or leads to an address that is not public; the message says why."""


def check_url(url: str, *, allow_private: bool) -> SplitResult:
    """The parts of a URL that requests may go to; what its name leads to is only known when one goes.

    Raises:
        RefusedAddressError: it is no http or https URL, or an address that is not public.
    """
    try:
        parts = urlsplit(url)
        named = (parts.hostname or "").encode("idna")
        valid = parts.scheme in ("http", "https") and named and parts.port != 0
    except ValueError:
        valid = False
    if not valid or len(url) > URL_LIMIT or not url.isascii() or not url.isprintable() or " " in url:
        raise RefusedAddressError(
            "{url!r} is not an http:// or https:// URL of at most {limit} characters", url=url[:80], limit=URL_LIMIT
        )
    if parts.username is not None or parts.password is not None:
        raise RefusedAddressError("a URL with a name or password in it; use the webhook's secret")
    if allow_private:
        return parts
    host = parts.hostname or ""
    if host == "localhost" or host.endswith((".localhost", ".local", ".internal")):
        raise RefusedAddressError("{host} is not a public address", host=host)
    with suppress(socket.gaierror):  # a name
        _check_public(host, socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST))
    return parts


def post(
    url: str, body: bytes, headers: dict[str, str], *, allow_private: bool, timeout: float = TIMEOUT
) -> tuple[int, bytes]:
    """The status of the answer to a POST request, and its first 64 KiB.

    Raises:
        RefusedAddressError: as `check_url`, or the name leads to an address that is not public.
        OSError, HTTPException: there was no answer in time, or none that makes sense.
    """
    parts = check_url(url, allow_private=allow_private)
    host, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    if not allow_private:
        _check_public(host, found)
    connection = (HTTPSConnection if secure else HTTPConnection)(host, port, timeout=timeout)
    overdue = threading.Timer(timeout, _shut, [connection])  # a timeout of the socket starts anew with each byte
    with closing(connection):
        connection.sock = _connect(found, timeout)
        overdue.start()
        try:
            if secure:
                context = ssl.create_default_context()
                connection.sock = context.wrap_socket(
                    connection.sock, server_hostname=host, do_handshake_on_connect=False
                )
                connection.sock.do_handshake()
            target = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
            connection.request("POST", target, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read(ANSWER_LIMIT)
        finally:
            overdue.cancel()


def is_public(address: str) -> bool:
    """Whether an IP address is one of the Internet's: not private, loopback, link-local, multicast or reserved."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        return found.is_global and found in UNICAST and found not in SIX_TO_FOUR
    return found.is_global and not found.is_multicast and found not in ASSIGNED


def _check_public(host: str, found: Found) -> None:
    for *_, address in found:
        if not is_public(str(address[0])):
            if host == address[0]:
                raise RefusedAddressError("{host} is not a public address", host=host)
            raise RefusedAddressError(
                "{host} leads to {address}, which is not a public address", host=host, address=address[0]
            )


def _connect(found: Found, timeout: float) -> socket.socket:
    failure: OSError = OSError("the name has no address")
    for *_, address in found[:ADDRESSES]:
        try:
            return socket.create_connection(address[:2], timeout)
        except OSError as error:
            failure = error
    raise failure


def _shut(connection: HTTPConnection) -> None:
    with suppress(OSError):  # it ended by itself
        socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)  # below TLS, which another thread may be in


Failures = (OSError, HTTPException, RefusedAddressError)  # what `post` ends with
