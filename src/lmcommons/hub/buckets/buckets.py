"""Which buckets exist, what they are called and who may see them."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from lmcommons.hub.accounts.accounts import Accounts, check_name, find_account
from lmcommons.hub.accounts.permissions import Action, Actor, allowed, require
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Account, Bucket, Event, FormerBucketName
from lmcommons.hub.errors import BucketNotFound, Conflict, Moved, Unauthorized

OWN = "me"  # the namespace of whoever asks


class Buckets:
    """The buckets of a hub."""

    def __init__(self, database: Database, accounts: Accounts) -> None:
        self._database = database
        self._accounts = accounts

    def find(self, actor: Actor, full_name: str, action: Action) -> Bucket:
        """The bucket called `namespace/name`, on which the actor may do `action`.

        Raises:
            BucketNotFound: there is none, or the actor may not know of it.
            Moved: it has another name now.
            Unauthorized, Forbidden: it may be seen, but not this.
        """
        with self._database.read() as session:
            bucket = _find(session, full_name)
            moved = _find_former(session, full_name) if bucket is None else None
        if moved is not None and allowed(actor, Action.SEE, moved):
            raise Moved(full_name, moved.full_name)
        if bucket is None or not allowed(actor, Action.SEE, bucket):
            raise BucketNotFound(signed_in=not actor.is_anonymous)
        require(actor, action, bucket)
        return bucket

    def listing(
        self, actor: Actor, namespace: str, *, search: str = "", after: str = "", limit: int | None = None
    ) -> list[Bucket]:
        """The buckets of an account that the actor may see and whose names have `search` in them, by name.

        Args:
            after: the name that the page before ended with.

        Raises:
            NotFound: no such account. Unauthorized: nobody has no own buckets.
        """
        with self._database.read() as session:
            account = _account(session, actor, namespace)
            chosen = select(Bucket).where(
                Bucket.account_id == account.id,
                Bucket.name_key > after.lower(),
                Bucket.name_key.contains(search.lower(), autoescape=True),
            )
            if not allowed(actor, Action.SEE, account):
                chosen = chosen.where(Bucket.private.is_(False))
            return list(session.scalars(chosen.order_by(Bucket.name_key).limit(limit)))

    def create(self, actor: Actor, namespace: str, name: str, *, private: bool | None = None) -> Bucket:
        """Make an empty bucket in a namespace; `private` None is the organisation's default.

        Raises:
            BadRequest: the name is not allowed. Conflict: it exists. NotFound: no such account.
            Unauthorized, Forbidden: not here.
        """
        check_name(name, "Bucket")
        with self._database.write() as session:
            owner = _account(session, actor, namespace)
            require(actor, Action.CREATE, owner)
            full_name = f"{owner.name}/{name}"
            found = _find(session, full_name)
            if found is not None:
                raise Conflict(f"You already created this bucket: {found.full_name}", fields={"path": found.path})
            _forget_former(session, full_name)
            bucket = Bucket(
                account=owner,
                creator_id=actor.account_id,
                name=name,
                name_key=name.lower(),
                private=owner.private_by_default if private is None else private,
            )
            session.add(bucket)
            session.flush()
            record(session, "bucket.created", actor, bucket, private=bucket.private)
        return bucket

    def delete(self, actor: Actor, full_name: str) -> None:
        """Delete a bucket with its files."""
        found = self.find(actor, full_name, Action.MANAGE)
        with self._database.write() as session:
            bucket = present(session, found)
            record(session, "bucket.deleted", actor, bucket, files=bucket.total_files, size=bucket.size)
            session.delete(bucket)

    def move(self, actor: Actor, former: str, current: str) -> Bucket:
        """Rename a bucket or give it to another namespace; the former name redirects.

        Raises:
            BadRequest: the new name is not allowed. Conflict: it is taken.
            Forbidden: from here or to there, or past the quota of the new owner.
        """
        namespace, _, name = current.partition("/")
        check_name(name, "Bucket")
        found = self.find(actor, former, Action.MANAGE)
        receiver = self._accounts.find(namespace)
        if receiver.id != found.account_id:
            self._accounts.require_room(receiver.id, found.size)
        with self._database.write() as session:
            owner = _account(session, actor, namespace)
            require(actor, Action.CREATE, owner)
            bucket = present(session, found)
            previous, full_name = bucket.full_name, f"{owner.name}/{name}"
            taken = _find(session, full_name)
            if taken not in (None, bucket):
                raise Conflict(f"A bucket called {full_name} already exists")
            _forget_former(session, full_name)
            bucket.account, bucket.name, bucket.name_key = owner, name, name.lower()
            if previous.lower() != full_name.lower():
                session.add(FormerBucketName(full_name_key=previous.lower(), bucket_id=bucket.id))
            record(session, "bucket.moved", actor, bucket, former=previous)
        return bucket

    def change(self, actor: Actor, full_name: str, *, private: bool) -> Bucket:
        """Hide a bucket or show it to everybody."""
        found = self.find(actor, full_name, Action.MANAGE)
        with self._database.write() as session:
            bucket = present(session, found)
            bucket.private = private
            record(session, "bucket.settings", actor, bucket, private=private)
        return bucket


def present(session: Session, bucket: Bucket) -> Bucket:
    """The row of a bucket that was found before, and may have been deleted since."""
    row = session.get(Bucket, bucket.id)
    if row is None:
        raise BucketNotFound(signed_in=True)
    return row


def record(session: Session, kind: str, actor: Actor, bucket: Bucket, **data: Any) -> None:
    """Append an event."""
    data |= {"type": "bucket", "id": bucket.id, "name": bucket.full_name}
    session.add(Event(kind=kind, actor=actor.name, data=data))


def _find(session: Session, full_name: str) -> Bucket | None:
    namespace, _, name = full_name.partition("/")
    return session.scalar(
        select(Bucket)
        .join(Account, Account.id == Bucket.account_id)
        .where(Account.name_key == namespace.lower(), Bucket.name_key == name.lower())
    )


def _find_former(session: Session, full_name: str) -> Bucket | None:
    return session.scalar(
        select(Bucket)
        .join(FormerBucketName, FormerBucketName.bucket_id == Bucket.id)
        .where(FormerBucketName.full_name_key == full_name.lower())
    )


def _forget_former(session: Session, full_name: str) -> None:
    former = session.get(FormerBucketName, full_name.lower())
    if former is not None:
        session.delete(former)
        session.flush()


def _account(session: Session, actor: Actor, namespace: str) -> Account:
    if namespace != OWN:
        return find_account(session, namespace)
    if actor.name is None:
        raise Unauthorized("You must be signed in to have buckets; send a token")
    return find_account(session, actor.name)
