"""The server that sends the hub's mail, as the operator names it."""

import smtplib
import ssl
from contextlib import closing
from dataclasses import dataclass, field
from email.message import EmailMessage
from urllib.parse import unquote, urlsplit

from lmcommons.errors import RequestError

PORTS = {"smtp": 25, "smtps": 465}
LOCAL = ("localhost", "127.0.0.1", "::1")  # where a password may go without TLS
TIMEOUT = 30.0  # seconds that the server may take for each answer


@dataclass(frozen=True)
class MailServer:
    """An SMTP server, and whom mail is from."""

    host: str
    port: int
    sender: str
    tls: bool  # from the first byte; else it begins where the server offers it
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str, sender: str | None, password: str | None) -> "MailServer":
        """The server at `smtp://[user@]host[:port]`, or `smtps://…` for TLS from the first byte.

        Raises:
            RequestError: the URL, the sender or the password is missing or cannot be.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port or PORTS.get(parts.scheme)
        except ValueError:
            host, port = None, None
        if not host or not port or parts.scheme not in PORTS or parts.path.strip("/") or parts.query:
            raise RequestError(f"--smtp {url.rpartition('@')[2]}: not an address like smtp://user@mail.example.org:587")
        if parts.password is not None:
            raise RequestError(
                "--smtp: others may see a password there; put it into the environment, LMC_SMTP_PASSWORD"
            )
        if (
            sender is None
            or not sender.isascii()
            or not sender.isprintable()
            or sender.count("@") != 1
            or " " in sender
        ):
            raise RequestError(f"--mail-from {sender or ''}: name the address that mail is from, as hub@example.org")
        user = unquote(parts.username) if parts.username else None
        if user is not None and not password:
            raise RequestError(f"--smtp: put the password of {user} into the environment, LMC_SMTP_PASSWORD")
        return cls(host, port, sender, parts.scheme == "smtps", user, password)

    def send(self, message: EmailMessage, to: str) -> None:
        """Send a message to one address.

        Raises:
            OSError: the server cannot be reached, or does not take the message; `smtplib`'s errors are among these.
        """
        context = ssl.create_default_context()
        connection = (
            smtplib.SMTP_SSL(self.host, self.port, timeout=TIMEOUT, context=context)
            if self.tls
            else smtplib.SMTP(self.host, self.port, timeout=TIMEOUT)
        )
        with closing(connection):
            connection.ehlo()
            secure = self.tls
            if not secure and connection.has_extn("starttls"):
                connection.starttls(context=context)
                connection.ehlo()
                secure = True
            if self.user is not None:
                if not secure and self.host not in LOCAL:
                    raise smtplib.SMTPException("the server offers no TLS, and a password is not sent without it")
                connection.login(self.user, self.password or "")
            connection.send_message(message, self.sender, [to])
