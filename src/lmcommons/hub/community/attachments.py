"""Attachments: pictures, videos and sounds that members put into comments, known by what their bytes are.

Their content is in the object store; a row says that it may be served to everybody who has the address. When texts
are hidden, those that only they have go with them: see `settle_attachments`.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.orm import Session

from lmcommons.hub.accounts.permissions import Action, Actor
from lmcommons.hub.community.own import own_account
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Attachment, CommentVersion, Discussion, DiscussionEvent, Event, Repository
from lmcommons.hub.errors import BadRequest, EntryNotFound, Forbidden, TooLarge
from lmcommons.hub.objects.store import BLOCK, ObjectStore, object_key

FOLDER = "/uploads/"  # in which attachments have their addresses
ADDRESS = re.compile(FOLDER + r"([0-9a-f]{64})\.")
HEAD = 64  # bytes that tell what a file is
VIDEO_LIMIT, LIMIT = 50 << 20, 10 << 20  # bytes of a video, and of anything else
ACCOUNT_LIMIT = 2 << 30  # bytes of one member's attachments


@dataclass(frozen=True)
class Format:
    """A format that is taken: what browsers call it, and how the names of its files end."""

    media_type: str
    suffix: str

    @property
    def limit(self) -> int:
        """Bytes that a file may have."""
        return VIDEO_LIMIT if self.media_type.startswith("video/") else LIMIT


PNG, JPEG, GIF, WEBP, MP4, MOV, WEBM, MP3, WAV = FORMATS = (
    Format("image/png", ".png"),
    Format("image/jpeg", ".jpg"),
    Format("image/gif", ".gif"),
    Format("image/webp", ".webp"),
    Format("video/mp4", ".mp4"),
    Format("video/quicktime", ".mov"),
    Format("video/webm", ".webm"),
    Format("audio/mpeg", ".mp3"),
    Format("audio/wav", ".wav"),
)
SUFFIXES = {format_.media_type: format_.suffix for format_ in FORMATS}


def recognise(head: bytes) -> Format | None:
    """The format of a file that begins with `head`; None when it is not taken."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return PNG
    if head.startswith(b"\xff\xd8\xff"):
        return JPEG
    if head.startswith((b"GIF87a", b"GIF89a")):
        return GIF
    if head.startswith(b"RIFF") and head[8:12] in (b"WEBP", b"WAVE"):
        return WEBP if head[8:12] == b"WEBP" else WAV
    if head[4:8] == b"ftyp":
        return MOV if head[8:12] == b"qt  " else MP4
    if head.startswith(b"\x1aE\xdf\xa3") and b"webm" in head:
        return WEBM
    if head.startswith((b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2")):
        return MP3
    return None


class Attachments:
    """The attachments of a hub."""

    def __init__(self, database: Database, objects: ObjectStore) -> None:
        self._database = database
        self._objects = objects

    def require(self, actor: Actor) -> None:
        """Return when the actor may upload.

        Raises:
            Unauthorized, Forbidden: not signed in, or with a token that may not.
        """
        with self._database.read() as session:
            own_account(session, actor, Action.DISCUSS)

    def add(self, actor: Actor, file: IO[bytes], size: int) -> Attachment:
        """Keep a file of `size` bytes.

        Raises:
            BadRequest: a format that is not taken. TooLarge: it is past its limit. Forbidden: the account has no room.
        """
        file.seek(0)
        format_ = recognise(file.read(HEAD))
        if format_ is None:
            names = ", ".join(suffix.removeprefix(".") for suffix in SUFFIXES.values())
            raise BadRequest(
                "An attachment is a picture, video or sound: {names}; this file is none of them", names=names
            )
        if size > format_.limit:
            raise TooLarge(
                "A {media_type} attachment has at most {limit} MiB",
                media_type=format_.media_type,
                limit=format_.limit >> 20,
            )
        with self._database.read() as session:
            account = own_account(session, actor, Action.DISCUSS)
            used = select(func.sum(Attachment.size)).where(Attachment.account_id == account.id)
            if (session.scalar(used) or 0) + size > ACCOUNT_LIMIT:
                raise Forbidden(
                    "The attachments of {account} have {limit} GiB, which is all they may",
                    account=account.name,
                    limit=ACCOUNT_LIMIT >> 30,
                )
        sha256 = self._store(file, size)
        with self._database.write() as session:
            present = session.get(Attachment, sha256)
            if present is not None:
                return present
            added = Attachment(sha256=sha256, size=size, media_type=format_.media_type, account_id=actor.account_id)
            session.add(added)
            session.add(Event(kind="attachment.added", actor=actor.name, data={"sha256": sha256, "size": size}))
        self._store(file, size)  # again, should garbage collection have taken it before there was a row
        return added

    def find(self, name: str) -> Attachment:
        """The attachment that a file name, its sha256 and suffix, leads to.

        Raises:
            EntryNotFound: there is none, or only hidden texts have it.
        """
        sha256, _, suffix = name.partition(".")
        with self._database.read() as session:
            found = session.get(Attachment, sha256)
        if found is None or found.withheld or file_name(found) != f"{sha256}.{suffix}":
            raise EntryNotFound("There is no such attachment")
        return found

    def _store(self, file: IO[bytes], size: int) -> str:
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
        if self._objects.blobs.size(object_key(sha256)) is None:  # one in a repository's xorbs may go with it
            file.seek(0)
            with self._objects.receive(sha256, size) as incoming:
                while block := file.read(BLOCK):
                    incoming.write(block)
        return sha256


def file_name(attachment: Attachment) -> str:
    """The last part of an attachment's address."""
    return attachment.sha256 + SUFFIXES[attachment.media_type]


def texts_with_attachments(session: Session, condition: ColumnElement[bool]) -> list[str]:
    """The texts of comments, hidden ones too, that may have attachments, of those for which a condition holds."""
    chosen = (
        select(CommentVersion.text)
        .join(DiscussionEvent, DiscussionEvent.id == CommentVersion.event_id)
        .join(Discussion, Discussion.id == DiscussionEvent.discussion_id)
        .join(Repository, Repository.id == Discussion.repository_id)
    )
    return list(session.scalars(chosen.where(CommentVersion.text.contains(FOLDER), condition)))


def settle_attachments(session: Session, texts: Iterable[str]) -> None:
    """Decide again about the attachments of some texts, which were just hidden, shown or removed.

    What a text has that can be read is served; what only hidden texts have is withheld; what none has any more, of
    which these were the last, is forgotten, and the collection of garbage removes its content.
    """
    named = _named(texts)
    if not named:
        return
    readable = CommentVersion.withheld.is_(False) & Discussion.withheld.is_(False) & Repository.hidden.is_(False)
    shown = named & _named(texts_with_attachments(session, readable))
    hidden = (named - shown) & _named(texts_with_attachments(session, ~readable))
    for withheld, sha256s in ((False, shown), (True, hidden)):
        session.execute(update(Attachment).where(Attachment.sha256.in_(sha256s)).values(withheld=withheld))
    session.execute(delete(Attachment).where(Attachment.sha256.in_(named - shown - hidden)))


def _named(texts: Iterable[str]) -> set[str]:
    return {sha256 for text in texts for sha256 in ADDRESS.findall(text)}
