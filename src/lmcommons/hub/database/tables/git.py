"""What is kept beside git: the last commit of each path at the head of the default branch, and LFS locks."""

from datetime import datetime

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from lmcommons.hub.database.tables.accounts import Account
from lmcommons.hub.database.tables.base import Table, now


class IndexedHead(Table):
    """The commit that a repository's rows of `path_commits` speak of; without one they are made anew."""

    __tablename__ = "indexed_heads"

    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True)
    commit: Mapped[str] = mapped_column(String(40))


class PathCommit(Table):
    """The commit that last changed a file or folder."""

    __tablename__ = "path_commits"

    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True)
    path: Mapped[str] = mapped_column(String(1024), primary_key=True)
    commit: Mapped[str] = mapped_column(String(40))


class LfsLock(Table):
    """A file that one account asked the others not to change, for git-lfs."""

    __tablename__ = "lfs_locks"
    __table_args__ = (
        UniqueConstraint("repository_id", "path"),
        {"sqlite_autoincrement": True},  # the id of a lock that was released is never given to another one
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"))
    path: Mapped[str] = mapped_column(String(1024))
    owner_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), index=True)
    locked_at: Mapped[datetime] = mapped_column(default=now)
    owner: Mapped[Account] = relationship(lazy="joined", innerjoin=True)
