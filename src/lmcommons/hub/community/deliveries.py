"""Telling webhooks of events, at least once each.

The queue is the table of deliveries, written with the event itself. Whoever takes a delivery moves its time to when
somebody else may take it, so that several processes share the work and a process that dies loses none. What fails is
tried again after 10 s, and four times as long after each failure.
"""

import hashlib
import hmac
import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select

from lmcommons import __version__
from lmcommons.hub.accounts.tokens import load_actor
from lmcommons.hub.background import EXPECTED, Background
from lmcommons.hub.community import outgoing
from lmcommons.hub.community.payloads import payload
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Event, TokenRole, WebhookDelivery, now
from lmcommons.hub.database.tables import Webhook as WebhookRow
from lmcommons.hub.words import Words

LOGGER = logging.getLogger(__name__)

AT_ONCE = 8
ATTEMPTS = 8  # the last one half a day after the first
FIRST_DELAY, FACTOR = timedelta(seconds=10), 4
LEASE = timedelta(minutes=2)  # after which a delivery that was taken and not ended may be taken again
PAUSE = 1.0  # seconds between looks into an empty queue
KEPT = timedelta(days=30)  # how long the log goes back
ANSWER_SHOWN = 150  # characters of the answer of an address that failed
SECRET, SIGNATURE = "X-Webhook-Secret", "X-Hub-Signature-256"
PROOFS = {SECRET, SIGNATURE}
HIDDEN = "[hidden]"


@dataclass(frozen=True)
class Message:
    """What is sent where."""

    url: str
    body: bytes
    headers: dict[str, str]

    @property
    def shown_headers(self) -> dict[str, str]:
        """The headers, without what proves that the hub sent them."""
        return {name: HIDDEN if name in PROOFS else value for name, value in self.headers.items()}

    def without_secrets(self, text: str) -> str:
        """A text, such as an answer that repeats the headers, without what proves that the hub sent them."""
        for name in PROOFS & self.headers.keys():
            text = text.replace(self.headers[name], HIDDEN)
        return text


class Deliveries(Background):
    """Delivers what is due."""

    def __init__(self, database: Database, public_url: str, *, allow_private: bool) -> None:
        super().__init__("webhooks", pause=PAUSE)
        self._database = database
        self._public_url = public_url
        self._allow_private = allow_private

    def work(self) -> int:
        """Send some of what is due."""
        return self.deliver_due()

    def deliver_due(self, when: datetime | None = None) -> int:
        """Take what is due at `when`, by default now, and send it; returns how many were taken."""
        when = when or now()
        with self._database.read() as session:
            due = select(func.count()).select_from(WebhookDelivery).where(WebhookDelivery.next_at <= when)
            if not session.scalar(due):
                return 0
        taken = self._take(when)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda delivery: self._deliver(delivery, when), taken))
        return len(taken)

    def _take(self, when: datetime) -> list[int]:
        """The oldest due delivery of each webhook, which nobody else takes until the lease ends."""
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
            return [delivery.id for delivery in deliveries]

    def _deliver(self, number: int, when: datetime) -> None:
        """Send a delivery that was taken, and note how it went; one that may not be told is removed."""
        status: int | None = None
        failure: str | None = None
        try:
            message = self.message(number)
            if message is not None:
                began = time.monotonic()
                status, answer = outgoing.post(
                    message.url, message.body, message.headers, allow_private=self._allow_private
                )
                if not 200 <= status < 300:
                    failure = _refusal(
                        status, time.monotonic() - began, message.without_secrets(answer.decode(errors="replace"))
                    )
        except outgoing.Failures as error:
            failure = str(error) or type(error).__name__
        except EXPECTED:
            raise
        except Exception:  # an event that cannot be told must not hold up the others
            LOGGER.exception("webhook delivery %d", number)
            failure = Words("the hub failed; its log says how")
        with self._database.write() as session:
            delivery = session.get(WebhookDelivery, number)
            if delivery is None:  # the webhook was deleted
                return
            if status is None and failure is None:
                session.delete(delivery)  # the log would tell its owner what the webhook may not
                return
            delivery.status, delivery.error = status, failure
            again = failure is not None and delivery.attempts < ATTEMPTS
            delivery.next_at = when + FIRST_DELAY * FACTOR ** (delivery.attempts - 1) if again else None

    def message(self, number: int) -> Message | None:
        """What a delivery sends where; None when it is gone, or tells what the webhook's owner may not know.

        It is made anew whenever it is sent, and so does not tell what was hidden or deleted since.
        """
        with self._database.read() as session:
            delivery = session.get(WebhookDelivery, number)
            if delivery is None:
                return None
            webhook = session.get_one(WebhookRow, delivery.webhook_id)
            if webhook.account.disabled:
                return None
            owner = load_actor(session, webhook.account, TokenRole.READ, None)
            told = payload(session, owner, webhook, delivery.event, self._public_url)
            return None if told is None else _message(number, webhook, json.dumps(told).encode())

    def clean(self) -> None:
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
        headers |= {SECRET: webhook.secret, SIGNATURE: f"sha256={signature}"}
    return Message(webhook.url, body, headers)


def _refusal(status: int, seconds: float, answer: str) -> Words:
    """Why a delivery failed that was answered."""
    said = "".join(letter for letter in " ".join(answer.split()) if letter.isprintable())[:ANSWER_SHOWN]
    told = {"status": status, "seconds": f"{seconds:.1f}"}
    if not said:
        return Words("answered with status {status} after {seconds} s", **told)
    return Words("answered with status {status} after {seconds} s: {answer}", answer=said, **told)
