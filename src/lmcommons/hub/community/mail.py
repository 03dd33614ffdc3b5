"""Mail: links that somebody asked for, invitations, and what somebody has not read a minute after it happened.

The tables of these are the queues. Whoever takes a row moves its time to when somebody else may take it, so that
several processes share the work and a process that dies loses none. What fails is tried again after a minute, and four
times as long after each failure; what is a day old is no news any more.
"""

import logging
import smtplib
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import func, select, update

from lmcommons.hub.background import Background
from lmcommons.hub.community.letters import Letters
from lmcommons.hub.community.notifications import KEPT, Notifications
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Mailed, MailLink, Notification, OrganisationInvitation, SecurityNotice, now
from lmcommons.hub.mail_server import MailServer

LOGGER = logging.getLogger(__name__)

Queue = type[Mailed]
QUEUES: tuple[Queue, ...] = (MailLink, SecurityNotice, OrganisationInvitation, Notification)  # the first are waited for

AT_ONCE = 10
ATTEMPTS = 6
FIRST_DELAY, FACTOR = timedelta(minutes=1), 4
LEASE = timedelta(minutes=10)  # after which one that was taken and not sent may be taken again
STALE = timedelta(days=1)
PAUSE = 5.0  # seconds between looks into empty queues


class Mail(Background):
    """Sends what is due, and forgets old notifications, whether they were sent or not."""

    def __init__(
        self, database: Database, notifications: Notifications, letters: Letters, server: MailServer | None
    ) -> None:
        super().__init__("mail", pause=PAUSE)
        self._database = database
        self._notifications = notifications
        self._letters = letters
        self._server = server

    @property
    def is_sent(self) -> bool:
        """Whether the hub sends mail."""
        return self._server is not None

    def held_up(self) -> int:
        """How many letters were tried in vain and are tried again."""
        with self._database.read() as session:
            counts = (
                session.scalar(select(func.count()).where(queue.mail_attempts > 0, queue.mail_at.is_not(None)))
                for queue in QUEUES
            )
            return sum(count or 0 for count in counts)

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
        when, count = when or now(), 0
        for queue in QUEUES:
            taken = self._take(queue, when)
            for number in taken:
                self._send(self._server, queue, number, when)
            count += len(taken)
        return count

    def _take(self, queue: Queue, when: datetime) -> Sequence[int]:
        """The oldest that are due, which nobody else takes until the lease ends; not those that are no news."""
        due = (queue.mail_at <= when,)
        with self._database.read() as session:
            if session.scalar(select(queue.id).where(*due).limit(1)) is None:
                return ()
        with self._database.write() as session:
            session.execute(update(queue).where(*due, queue.created_at < when - STALE).values(mail_at=None))
            taken = session.scalars(select(queue.id).where(*due).order_by(queue.id).limit(AT_ONCE)).all()
            lease = {"mail_at": when + LEASE, "mail_attempts": queue.mail_attempts + 1}
            session.execute(update(queue).where(queue.id.in_(taken)).values(lease))
        return taken

    def _send(self, server: MailServer, queue: Queue, number: int, when: datetime) -> None:
        again = False
        try:
            with self._database.read() as session:
                row = session.get(queue, number)
                letter = self._letters.write(session, row) if row is not None else None
            if letter is not None:
                server.send(self._letters.message(letter, server.sender), letter.to)
        except (OSError, ValueError) as error:  # ValueError: an address that no mail can go to
            again = not _is_final(error)
            LOGGER.warning("mail (%s %d) was not sent: %s", queue.__name__, number, type(error).__name__)
        taken = (queue.id == number, queue.mail_at == when + LEASE)  # and not asked for anew meanwhile
        with self._database.write() as session:
            attempts = session.scalar(select(queue.mail_attempts).where(*taken)) or ATTEMPTS
            later = when + FIRST_DELAY * FACTOR ** (attempts - 1) if again and attempts < ATTEMPTS else None
            session.execute(update(queue).where(*taken).values(mail_at=later))


def _is_final(error: Exception) -> bool:
    """Whether trying again is of no use: an address that cannot be, or that the server refuses for good."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return all(code >= 500 for code, _ in error.recipients.values())
    return isinstance(error, ValueError | smtplib.SMTPNotSupportedError)
