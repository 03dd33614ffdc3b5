"""A hub without HTTP that sends mail, for tests of what is sent to whom."""

import re
import urllib.parse
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from open_rooms import open_rooms
from receiver import Receiver
from sqlalchemy import update

from lmcommons.hub.accounts.permissions import Actor
from lmcommons.hub.community.notifications import MAIL_DELAY
from lmcommons.hub.database.tables import MailLink, now
from lmcommons.hub.rooms import Hub

PASSWORD = "correct horse battery"
URL = "https://hub.example.org"


class Posting:
    """A hub that sends mail to `receiver`."""

    def __init__(self, data: Path, receiver: Receiver) -> None:
        self.receiver = receiver
        self.hub: Hub = open_rooms(data, smtp=receiver.url, mail_from="hub@example.org", public_url=URL, sign_up="open")

    def join(self, name: str, **more: Any) -> Actor:
        return self.hub.browser_sessions.actor(self.hub.joining.join(name, PASSWORD, **more))

    def address(self, name: str) -> str | None:
        return self.hub.accounts.find(name).email

    def delivered(self, *, notices: bool = False) -> list[tuple[str, EmailMessage]]:
        """What arrives now, security notices or all else: to whom, and what."""
        self.receiver.mail.clear()
        self.hub.mail.send_due(now() + MAIL_DELAY)
        found = [(to[0], message) for to, message in self.receiver.mail]
        return [each for each in found if each[1]["Message-ID"].startswith("<notice-") == notices]

    def code(self) -> str:
        """The code of the one link that arrives now."""
        [(_, message)] = self.delivered()
        return code_in(message)

    def end(self) -> None:
        """All links end."""
        with self.hub.database.write() as session:
            session.execute(update(MailLink).values(expires_at=now()))


def code_in(message: EmailMessage) -> str:
    found = re.search(rf"{URL}/\S+\?code=(\S+)", message.get_content())
    assert found is not None
    return urllib.parse.unquote(found[1])
