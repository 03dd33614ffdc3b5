"""Notifications by mail: what somebody has not read a minute after it happened.

The queue is the table of notifications. Whoever takes one moves its time to when somebody else may take it, so that
several processes share the work and a process that dies loses none. What fails is tried again after a minute, and four
times as long after each failure; what is a day old is no news any more.
"""

import logging
import smtplib
from datetime import datetime, timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from urllib.parse import urlsplit

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from lmcommons.hub.background import Background
from lmcommons.hub.community.notifications import KEPT, Notifications, may_see
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import (
    Account,
    DiscussionEvent,
    MailChoice,
    Notification,
    Reason,
    now,
)
from lmcommons.hub.mail_server import MailServer

LOGGER = logging.getLogger(__name__)

AT_ONCE = 10
ATTEMPTS = 6
FIRST_DELAY, FACTOR = timedelta(minutes=1), 4
LEASE = timedelta(minutes=10)  # after which one that was taken and not sent may be taken again
STALE = timedelta(days=1)
PAUSE = 5.0  # seconds between looks into an empty queue
TEXT_LIMIT = 4_000  # characters of a comment that are sent

# What happened, before the name of who did it is known: that may be nobody's any more.
SAID = {
    Reason.MENTION: "{} mentioned you",
    Reason.OPENED: "{} opened this",
    Reason.REPLY: "{} commented",
    Reason.REVIEW_ASKED: "{} asks you for a review",
    Reason.REVIEWED: "{} reviewed this",
    Reason.MERGED: "{} merged this",
    Reason.CLOSED: "{} closed this",
    Reason.REOPENED: "{} reopened this",
    Reason.ACCESS_ASKED: "{} asks for access to the files",
    Reason.ACCEPTED: "{} gave you access to the files",
    Reason.REJECTED: "{} did not give you access to the files",
    Reason.MODERATED: "An administrator decided about something of yours here",
}


class Mail(Background):
    """Sends what is due, and forgets old notifications, whether they were sent or not."""

    def __init__(
        self, database: Database, notifications: Notifications, server: MailServer | None, public_url: str
    ) -> None:
        super().__init__("mail", pause=PAUSE)
        self._database = database
        self._notifications = notifications
        self._server = server
        self._public_url = public_url

    @property
    def is_sent(self) -> bool:
        """Whether the hub sends mail."""
        return self._server is not None

    def work(self) -> int:
        """Send some of what is due."""
        return self.send_due()

    def clean(self) -> None:
        """Forget notifications that were read long ago."""
        self._notifications.forget(now() - KEPT)

    def send_due(self, when: datetime | None = None) -> int:
        """Take what is due at `when`, by default now, and send it; returns how many were taken."""
        if self._server is None:
            return 0
        when = when or now()
        with self._database.read() as session:
            if session.scalar(select(Notification.id).where(Notification.mail_at <= when).limit(1)) is None:
                return 0
        taken = self._take(when)
        for number in taken:
            self._send(self._server, number, when)
        return len(taken)

    def _take(self, when: datetime) -> list[int]:
        """The oldest that are due, which nobody else takes until the lease ends; not those that are no news."""
        due = (Notification.mail_at <= when,)
        with self._database.write() as session:
            session.execute(
                update(Notification).where(*due, Notification.created_at < when - STALE).values(mail_at=None)
            )
            chosen = select(Notification.id).where(*due).order_by(Notification.id).limit(AT_ONCE)
            taken = list(session.scalars(chosen))
            session.execute(
                update(Notification)
                .where(Notification.id.in_(taken))
                .values(mail_at=when + LEASE, mail_attempts=Notification.mail_attempts + 1)
            )
        return taken

    def _send(self, server: MailServer, number: int, when: datetime) -> None:
        again = False
        try:
            prepared = self._prepare(server, number)
            if prepared is not None:
                message, to = prepared
                server.send(message, to)
        except (OSError, ValueError) as error:  # ValueError: an address that no mail can go to
            again = not _is_final(error)
            LOGGER.warning("mail for notification %d was not sent: %s", number, type(error).__name__)
        with self._database.write() as session:
            row = session.get(Notification, number)
            if row is not None:
                again = again and row.mail_attempts < ATTEMPTS
                row.mail_at = when + FIRST_DELAY * FACTOR ** (row.mail_attempts - 1) if again else None

    def _prepare(self, server: MailServer, number: int) -> tuple[EmailMessage, str] | None:
        """The message and where it goes; None when it was read, is not wanted, or may not be known any more."""
        with self._database.read() as session:
            row = session.get(Notification, number)
            user = session.get(Account, row.account_id) if row is not None else None
            if row is None or user is None or not user.email or row.read or user.disabled:
                return None
            choice = session.get(MailChoice, user.id)
            if (choice is not None and not choice.wanted) or not may_see(session, user, row.repository):
                return None
            if row.discussion is not None and row.discussion.withheld:
                return None
            return self._message(session, server, row, user.email), user.email

    def _message(self, session: Session, server: MailServer, row: Notification, to: str) -> EmailMessage:
        discussion = row.discussion
        name = row.repository.full_name
        subject, page = name, f"{self._public_url}/{row.repository.path}"
        host = urlsplit(self._public_url).hostname
        thread = f"<access-{row.repository_id}@{host}>"
        if discussion is not None:
            subject, page = (
                f"[{name}] {discussion.title} (#{discussion.number})",
                f"{page}/discussions/{discussion.number}",
            )
            thread = f"<discussion-{discussion.id}@{host}>"
        said = SAID[row.reason].format(row.actor.name if row.actor is not None else "Somebody")
        if row.reason is Reason.MODERATED:
            page = f"{self._public_url}/settings/decisions"
        message = EmailMessage()
        message["From"] = Address(display_name="LM Commons", addr_spec=server.sender)
        message["To"] = Address(addr_spec=to)
        message["Subject"] = subject
        message["Date"] = format_datetime(row.created_at)
        message["Message-ID"] = f"<notification-{row.id}@{host}>"
        message["In-Reply-To"] = message["References"] = thread
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(
            f"{said}: {subject}\n\n{_text(session, row)}{page}\n\n-- \n"
            f"You choose what you are told of, and whether by mail, at {self._public_url}/notifications\n"
        )
        return message


def _text(session: Session, row: Notification) -> str:
    """What was said, as it is now; nothing where it was hidden."""
    event = session.get(DiscussionEvent, row.event_id) if row.event_id is not None else None
    if event is None or not event.versions:
        return ""
    text = event.versions[-1].text
    return (text if len(text) <= TEXT_LIMIT else f"{text[:TEXT_LIMIT]}…") + "\n\n"


def _is_final(error: Exception) -> bool:
    """Whether trying again is of no use: an address that cannot be, or that the server refuses for good."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return all(code >= 500 for code, _ in error.recipients.values())
    return isinstance(error, ValueError | smtplib.SMTPNotSupportedError)
