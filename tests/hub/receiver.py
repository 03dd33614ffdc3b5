"""A mail server for tests."""

import email
import email.policy
from collections.abc import Callable
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from hub_process import PATIENCE, free_port


class Receiver:
    """A mail server that keeps what it takes, and refuses what it is told to refuse."""

    def __init__(self, password: str | None = None) -> None:
        self.mail: list[tuple[list[str], EmailMessage]] = []
        self.refusals: list[str] = []
        self.logins: list[bytes] = []
        self.meanwhile: Callable[[], None] | None = None  # what happens once while it takes a message

        def authenticate(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
            assert isinstance(data, LoginPassword)
            self.logins.append(data.login)
            return AuthResult(success=data.password == (password or "").encode())

        more: dict[str, Any] = {"ready_timeout": PATIENCE}
        if password is not None:
            more |= {"authenticator": authenticate, "auth_require_tls": False, "auth_required": True}
        self.port = free_port()
        self.controller = Controller(self, hostname="127.0.0.1", port=self.port, **more)
        self.controller.start()
        self.url = f"smtp://127.0.0.1:{self.port}"

    async def handle_RCPT(  # noqa: N802 - the name that aiosmtpd asks for
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.refusals:
            return self.refusals.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        message = email.message_from_bytes(envelope.content or b"", policy=email.policy.default)  # type: ignore[arg-type]
        assert isinstance(message, EmailMessage)
        if self.meanwhile is not None:
            happen, self.meanwhile = self.meanwhile, None
            happen()
        self.mail.append((envelope.rcpt_tos, message))
        return "250 OK"
