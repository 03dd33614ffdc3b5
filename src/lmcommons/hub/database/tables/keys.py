"""Keys by which programs sign in over SSH."""

from datetime import datetime

from sqlalchemy import ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from lmcommons.hub.database.tables.accounts import Account
from lmcommons.hub.database.tables.base import Table, now


class SshKey(Table):
    """A public key of an account; nobody else has it."""

    __tablename__ = "ssh_keys"

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(96))
    kind: Mapped[str] = mapped_column(String(64))  # its algorithm, as SSH calls it
    fingerprint: Mapped[str] = mapped_column(String(64), unique=True)  # SHA256:…, as `ssh-keygen -l` shows it
    public_key: Mapped[str] = mapped_column(Text)  # as a line of `authorized_keys`, without a comment
    created_at: Mapped[datetime] = mapped_column(default=now)
    last_used_at: Mapped[datetime | None]  # to the hour
    account: Mapped[Account] = relationship(lazy="joined", innerjoin=True)
