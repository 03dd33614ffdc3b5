"""Webhooks: what a member wants told to an address. `deliveries.py` tells it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Select, and_, exists, func, or_, select, update
from sqlalchemy.orm import Session

from lmcommons.hub.accounts.permissions import Action, Actor, visible
from lmcommons.hub.community.outgoing import RefusedAddressError, check_url
from lmcommons.hub.community.own import own_account
from lmcommons.hub.database.events import DISCUSSIONS, SCOPES
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Account, Event, Repository, Webhook, WebhookDelivery, WebhookWatch, now
from lmcommons.hub.errors import BadRequest, NotFound
from lmcommons.hub.words import Words

DOMAINS = ("repo", "discussion")
WATCHED = ("dataset", "model", "org", "space", "user")
WEBHOOKS_LIMIT, WATCHED_LIMIT = 100, 100  # of one account, of one webhook
NAME = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)
NAME_LIMIT, SECRET_LIMIT = 193, 200  # characters


class Webhooks:
    """The webhooks of a hub's members: each sees and changes only their own."""

    def __init__(self, database: Database, *, allow_private: bool) -> None:
        self._database = database
        self._allow_private = allow_private

    def listing(self, actor: Actor) -> list[Webhook]:
        """The actor's webhooks.

        Raises:
            Unauthorized, Forbidden: nobody is signed in, or the token may not manage the account.
        """
        with self._database.read() as session:
            account = own_account(session, actor, Action.MANAGE)
            return list(session.scalars(select(Webhook).where(Webhook.account_id == account.id).order_by(Webhook.id)))

    def find(self, actor: Actor, number: int) -> Webhook:
        """One of the actor's webhooks.

        Raises:
            NotFound: there is none.
        """
        with self._database.read() as session:
            return _find(session, actor, number)

    def create(
        self,
        actor: Actor,
        url: str,
        watched: Sequence[Mapping[str, Any]],
        domains: Sequence[Any] = DOMAINS,
        secret: str | None = None,
    ) -> Webhook:
        """Begin to tell `url` what happens in `watched`, each a `type` and a `name`.

        Raises:
            BadRequest: a value that cannot work, named.
        """
        self._check_url(url)
        if not watched:
            raise BadRequest("`watched` is empty: name a repository, a user or an organisation")
        with self._database.write() as session:
            account = own_account(session, actor, Action.MANAGE)
            count = select(func.count()).where(Webhook.account_id == account.id)
            if (session.scalar(count) or 0) >= WEBHOOKS_LIMIT:
                raise BadRequest("An account has at most {limit} webhooks; delete one first", limit=WEBHOOKS_LIMIT)
            webhook = Webhook(account=account, url=url, secret=_checked_secret(secret), watched=_watches(watched))
            _set_domains(webhook, domains)
            session.add(webhook)
            session.flush()
            _record(session, "created", actor, webhook)
        return webhook

    def update(
        self,
        actor: Actor,
        number: int,
        *,
        url: str | None = None,
        watched: Sequence[Mapping[str, Any]] = (),
        domains: Sequence[Any] | None = None,
        secret: str | None = None,
    ) -> Webhook:
        """Change what is given; nothing watched, as clients send it, changes nothing."""
        if url is not None:
            self._check_url(url)
        with self._database.write() as session:
            webhook = _find(session, actor, number)
            webhook.url = url or webhook.url
            if secret is not None:
                webhook.secret = _checked_secret(secret)
            if domains is not None:
                _set_domains(webhook, domains)
            if watched:
                webhook.watched.clear()
                session.flush()
                webhook.watched.extend(_watches(watched))
            _record(session, "updated", actor, webhook)
        return webhook

    def set_disabled(self, actor: Actor, number: int, disabled: bool) -> Webhook:
        """Stop or begin again; what was waiting to be told when it stopped is not told."""
        with self._database.write() as session:
            webhook = _find(session, actor, number)
            webhook.disabled = disabled
            if disabled:
                waiting = (WebhookDelivery.webhook_id == webhook.id, WebhookDelivery.next_at.is_not(None))
                session.execute(update(WebhookDelivery).where(*waiting).values(next_at=None, error=Words("disabled")))
            _record(session, "disabled" if disabled else "enabled", actor, webhook)
        return webhook

    def delete(self, actor: Actor, number: int) -> None:
        """Remove a webhook and the log of its deliveries."""
        with self._database.write() as session:
            webhook = _find(session, actor, number)
            _record(session, "deleted", actor, webhook)
            session.delete(webhook)

    def deliveries(self, actor: Actor, number: int, *, offset: int = 0, limit: int = 100) -> list[WebhookDelivery]:
        """What a webhook was told, and will be of what its owner may see, the last first."""
        with self._database.read() as session:
            chosen = _deliveries(actor, _find(session, actor, number)).order_by(WebhookDelivery.id.desc())
            return list(session.scalars(chosen.offset(offset).limit(limit)))

    def delivery(self, actor: Actor, number: int, delivery: int) -> WebhookDelivery:
        """One of what `deliveries` lists.

        Raises:
            NotFound: there is none.
        """
        with self._database.read() as session:
            webhook = _find(session, actor, number)
            found = session.scalar(_deliveries(actor, webhook).where(WebhookDelivery.id == delivery))
        if found is None:
            raise NotFound("This webhook has no such delivery")
        return found

    def send_again(self, actor: Actor, number: int, delivery: int | None = None) -> WebhookDelivery:
        """Queue what a delivery told, or the last thing that happened where the webhook watches, as another delivery.

        Raises:
            NotFound: no such webhook, or delivery of it.
            BadRequest: nothing has happened yet that its owner may see, or the webhook is disabled.
        """
        with self._database.write() as session:
            webhook = _find(session, actor, number)
            if webhook.disabled:
                raise BadRequest("The webhook is disabled: enable it, then test it")
            if delivery is None:
                event_id = session.scalar(_last_event(actor, webhook))
                if event_id is None:
                    raise BadRequest("Nothing has happened yet in what this webhook watches: there is nothing to send")
            else:
                sent = session.get(WebhookDelivery, delivery)
                if sent is None or sent.webhook_id != webhook.id:
                    raise NotFound("This webhook has no such delivery")
                event_id = sent.event_id
            again = WebhookDelivery(webhook_id=webhook.id, event_id=event_id, next_at=now())
            session.add(again)
        return again

    def _check_url(self, url: str) -> None:
        try:
            check_url(url, allow_private=self._allow_private)
        except RefusedAddressError as error:
            raise BadRequest("`url`: {reason}", reason=error) from error


def _find(session: Session, actor: Actor, number: int) -> Webhook:
    account = own_account(session, actor, Action.MANAGE)
    webhook = session.get(Webhook, number)
    if webhook is None or webhook.account_id != account.id:
        raise NotFound("You have no such webhook")
    return webhook


def _deliveries(actor: Actor, webhook: Webhook) -> Select[WebhookDelivery]:
    """What a webhook was told, and will be of what its owner may see."""
    seen = exists().where(Repository.id == Event.repository_id, visible(actor))
    chosen = select(WebhookDelivery).join(Event, Event.id == WebhookDelivery.event_id)
    return chosen.where(WebhookDelivery.webhook_id == webhook.id, or_(WebhookDelivery.attempts > 0, seen))


def _last_event(actor: Actor, webhook: Webhook) -> Select[int]:
    """The last event that a webhook would be told of, in what its owner may see."""
    watched = [
        Account.name_key == watch.name_key
        if watch.kind in ("user", "org")
        else and_(Repository.type == watch.kind, Account.name_key + "/" + Repository.name_key == watch.name_key)
        for watch in webhook.watched
    ]
    domains = {DOMAINS[0]: webhook.repo, DOMAINS[1]: webhook.discussion}
    kinds = [kind for kind in SCOPES if domains[DOMAINS[kind.startswith(DISCUSSIONS)]]]
    chosen = select(Event.id).join(Repository, Repository.id == Event.repository_id)
    chosen = chosen.join(Account, Account.id == Repository.account_id)
    chosen = chosen.where(Event.kind.in_(kinds), or_(*watched), visible(actor))
    return chosen.order_by(Event.id.desc()).limit(1)


def _watches(watched: Sequence[Mapping[str, Any]]) -> list[WebhookWatch]:
    if len(watched) > WATCHED_LIMIT:
        raise BadRequest("A webhook watches at most {limit} items", limit=WATCHED_LIMIT)
    watches: list[WebhookWatch] = []
    for position, item in enumerate(watched):
        kind, name = item.get("type"), item.get("name")
        if kind not in WATCHED or not isinstance(name, str) or len(name) > NAME_LIMIT or not NAME.fullmatch(name):
            raise BadRequest(
                "`watched` needs a `type` ({choices}) and a `name` in each item", choices=", ".join(WATCHED)
            )
        watches.append(WebhookWatch(position=position, kind=kind, name=name, name_key=name.lower()))
    return watches


def _set_domains(webhook: Webhook, domains: Sequence[Any]) -> None:
    if not domains or any(domain not in DOMAINS for domain in domains):
        raise BadRequest("`domains` is one or both of {choices}", choices=", ".join(DOMAINS))
    webhook.repo, webhook.discussion = (domain in domains for domain in DOMAINS)


def _checked_secret(secret: str | None) -> str | None:
    if secret and (len(secret) > SECRET_LIMIT or not secret.isascii() or not secret.isprintable()):
        raise BadRequest("`secret` has at most {limit} characters, all of them printable ASCII", limit=SECRET_LIMIT)
    return secret or None


def _record(session: Session, what: str, actor: Actor, webhook: Webhook) -> None:
    session.add(Event(kind=f"webhook.{what}", actor=actor.name, data={"webhook": webhook.id}))
