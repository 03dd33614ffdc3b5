"""Telling webhooks of events, at least once each.

The queue is the table of deliveries, written with the event itself. Whoever takes a delivery moves its time to when
somebody else may take it, so that several processes share the work and a process that dies loses none. What fails is
tried again after 10 s, and four times as long after each failure.
"""

import hashlib
import hmac
import json
import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.exc import SQLAlchemyError

from lmcommons import __version__
from lmcommons.hub.accounts.tokens import load_actor
from lmcommons.hub.community import outgoing
from lmcommons.hub.community.payloads import payload
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Event, TokenRole, WebhookDelivery, now
from lmcommons.hub.database.tables import Webhook as WebhookRow
from lmcommons.hub.errors import HubError

LOGGER = logging.getLogger(__name__)

AT_ONCE = 8
ATTEMPTS = 8  # the last one half a day after the first
FIRST_DELAY, FACTOR = timedelta(seconds=10), 4
LEASE = timedelta(minutes=2)  # after which a delivery that was taken and not ended may be taken again
PAUSE = 1.0  # seconds between looks into an empty queue
KEPT = timedelta(days=30)  # how long the log goes back
ERROR_LIMIT = 300  # characters


@dataclass(frozen=True)
class Message:
    """A delivery that was taken: what is sent where."""

    delivery: int
    url: str
    body: bytes
    headers: dict[str, str]


class Deliveries:
    """Delivers what is due, from a thread of its own between `start` and `stop`."""

    def __init__(self, database: Database, public_url: str, *, allow_private: bool) -> None:
        self._database = database
        self._public_url = public_url
        self._allow_private = allow_private
        self._stopping = threading.Event()

    def start(self) -> None:
        """Begin."""
        self._stopping.clear()
        threading.Thread(target=self._run, name="webhooks", daemon=True).start()

    def stop(self) -> None:
        """End after what is being sent; what is not is sent by the next to start."""
        self._stopping.set()

    def deliver_due(self, when: datetime | None = None) -> int:
        """Take what is due at `when`, by default now, and send it; returns how many were taken."""
        when = when or now()
        with self._database.read() as session:
            due = select(func.count()).select_from(WebhookDelivery).where(WebhookDelivery.next_at <= when)
            if not session.scalar(due):
                return 0
        messages, taken = self._take(when)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda message: self._send(message, when), messages))
        return taken

    def _run(self) -> None:
        pruned = 0.0
        while not self._stopping.wait(PAUSE):
            try:
                while self.deliver_due() and not self._stopping.is_set():
                    pass
                if time.monotonic() - pruned > 3600:
                    self._forget()
                    pruned = time.monotonic()
            except (SQLAlchemyError, HubError) as error:
                # A database that is busy or restarts, or a full disk; what is due stays due.
                LOGGER.warning("webhooks wait: %s", error)

    def _take(self, when: datetime) -> tuple[Sequence[Message], int]:
        """The oldest due delivery of each webhook, ready to send, and how many deliveries were taken."""
        messages: list[Message] = []
        with self._database.write() as session:
            first = (
                select(func.min(WebhookDelivery.id))
                .where(WebhookDelivery.next_at <= when)
                .group_by(WebhookDelivery.webhook_id)
                .order_by(func.min(WebhookDelivery.next_at))
                .limit(AT_ONCE)
            )
            deliveries = session.scalars(
                select(WebhookDelivery).where(WebhookDelivery.id.in_(list(session.scalars(first))))
            ).all()
            for delivery in deliveries:
                delivery.attempts += 1
                delivery.next_at = when + LEASE
                webhook = session.get_one(WebhookRow, delivery.webhook_id)
                owner = load_actor(session, webhook.account, TokenRole.READ, None)
                told = (
                    None
                    if webhook.account.disabled
                    else payload(session, owner, webhook, delivery.event, self._public_url)
                )
                if told is None:
                    session.delete(delivery)  # the log would tell its owner what the webhook may not
                else:
                    messages.append(_message(delivery.id, webhook, json.dumps(told).encode()))
            return messages, len(deliveries)

    def _send(self, message: Message, when: datetime) -> None:
        status, failure = None, None
        try:
            status = outgoing.post(message.url, message.body, message.headers, allow_private=self._allow_private)
            if not 200 <= status < 300:
                failure = f"answered with status {status}"
        except outgoing.Failures as error:
            failure = str(error) or type(error).__name__
        with self._database.write() as session:
            delivery = session.get(WebhookDelivery, message.delivery)
            if delivery is None:  # the webhook was deleted
                return
            delivery.status, delivery.error = status, failure[:ERROR_LIMIT] if failure else None
            again = failure is not None and delivery.attempts < ATTEMPTS
            delivery.next_at = when + FIRST_DELAY * FACTOR ** (delivery.attempts - 1) if again else None

    def _forget(self) -> None:
        """Shorten the log."""
        old = select(Event.id).where(Event.at < now() - KEPT)
        with self._database.write() as session:
            session.execute(
                delete(WebhookDelivery).where(WebhookDelivery.next_at.is_(None), WebhookDelivery.event_id.in_(old))
            )


def _message(delivery: int, webhook: WebhookRow, body: bytes) -> Message:
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"lmcommons/{__version__}",
        "X-Webhook-Delivery": f"{delivery:024x}",  # the same at each attempt
    }
    if webhook.secret:
        signature = hmac.new(webhook.secret.encode(), body, hashlib.sha256).hexdigest()
        headers |= {"X-Webhook-Secret": webhook.secret, "X-Hub-Signature-256": f"sha256={signature}"}
    return Message(delivery, webhook.url, body, headers)
