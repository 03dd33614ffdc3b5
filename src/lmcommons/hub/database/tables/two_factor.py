"""Second factors of sign-in: what makes the codes of an authenticator, and the codes for the day it is lost."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from lmcommons.hub.database.tables.base import Table, now


class TwoFactor(Table):
    """An account's second factor; its secret follows from `salt` and the hub's own secret, which is not in here."""

    __tablename__ = "two_factors"

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True)
    salt: Mapped[str] = mapped_column(String(64))
    last_step: Mapped[int] = mapped_column(BigInteger, default=0)  # of 30 seconds, whose code was used last
    failures: Mapped[int] = mapped_column(default=0)  # wrong codes since the last right one
    next_at: Mapped[datetime | None]  # before it no code of the authenticator is looked at
    created_at: Mapped[datetime] = mapped_column(default=now)
    confirmed_at: Mapped[datetime | None]  # from then on it is asked for


class RecoveryCode(Table):
    """A code that signs in once instead of the authenticator; only its sha256 is kept."""

    __tablename__ = "recovery_codes"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), index=True)
