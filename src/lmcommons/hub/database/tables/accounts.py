"""Users, organisations, memberships, and the ways to sign in: tokens, sessions, invitations, device logins, links."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, String, Text, UniqueConstraint, false
from sqlalchemy.orm import Mapped, mapped_column, relationship

from lmcommons.hub.database.tables.base import Mailed, Table, now


class AccountKind(StrEnum):
    """Who can own repositories; of a user who was deleted, only the name and the id are kept from ever being reused."""

    USER = "user"
    ORGANISATION = "organisation"
    DELETED = "deleted"


class Role(StrEnum):
    """What a member may do in an organisation; `accounts/permissions.py` says what each role means."""

    READ = "read"
    CONTRIBUTOR = "contributor"
    WRITE = "write"
    ADMIN = "admin"


class TokenRole(StrEnum):
    """What a token may be used for."""

    READ = "read"
    WRITE = "write"
    FINE_GRAINED = "fineGrained"  # only what its scopes name


class Account(Table):
    """A user or an organisation: a namespace of repositories."""

    __tablename__ = "accounts"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[AccountKind]
    name: Mapped[str] = mapped_column(String(96))
    name_key: Mapped[str] = mapped_column(String(96), unique=True)  # lower case: names differ by more than case
    fullname: Mapped[str] = mapped_column(String(200))
    email: Mapped[str | None] = mapped_column(String(254))  # not one that waits to be verified: that is in a MailLink
    language: Mapped[str | None] = mapped_column(String(8))  # chosen for pages and mail
    is_admin: Mapped[bool] = mapped_column(default=False)
    private_by_default: Mapped[bool] = mapped_column(default=False)
    disabled: Mapped[bool] = mapped_column(
        default=False, server_default=false()
    )  # may not sign in; what is theirs stays
    password_hash: Mapped[str | None] = mapped_column(String(200))  # argon2id, with its parameters and salt
    quota: Mapped[int | None] = mapped_column(BigInteger)  # bytes that may be stored in its namespace
    bio: Mapped[str] = mapped_column(String(500), default="", server_default="")
    website: Mapped[str] = mapped_column(String(200), default="", server_default="")
    created_at: Mapped[datetime] = mapped_column(default=now)


class Membership(Table):
    """A user's role in an organisation."""

    __tablename__ = "memberships"

    organisation_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True, index=True)
    role: Mapped[Role]


class OrganisationInvitation(Mailed, Table):
    """A user is asked to become a member of an organisation, and has not answered."""

    __tablename__ = "organisation_invitations"
    __table_args__ = (UniqueConstraint("organisation_id", "user_id"),)

    organisation_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    user_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), index=True)
    inviter_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id", ondelete="SET NULL"), index=True)
    role: Mapped[Role]
    organisation: Mapped[Account] = relationship(foreign_keys=[organisation_id], lazy="joined", innerjoin=True)
    user: Mapped[Account] = relationship(foreign_keys=[user_id], lazy="joined", innerjoin=True)
    inviter: Mapped[Account | None] = relationship(foreign_keys=[inviter_id], lazy="joined")


class Token(Table):
    """An access token; only its sha256 is kept, and that of the token that renews it."""

    __tablename__ = "tokens"

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(96))
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    role: Mapped[TokenRole]
    scopes: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))  # see `permissions.Actor.scopes`
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]  # to the hour
    refresh_sha256: Mapped[str | None] = mapped_column(String(64), index=True, unique=True)
    account: Mapped[Account] = relationship(lazy="joined", innerjoin=True)


class BrowserSession(Table):
    """A browser that signed in with a password; only the sha256 of its cookie is kept."""

    __tablename__ = "browser_sessions"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime]
    agent: Mapped[str] = mapped_column(String(80), default="", server_default="")  # the browser and system, in short
    last_used_at: Mapped[datetime | None]  # to a quarter of an hour
    account: Mapped[Account] = relationship(lazy="joined", innerjoin=True)


class SentForm(Table):
    """A form of the pages that was sent; only the sha256 of its key is kept."""

    __tablename__ = "sent_forms"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    address: Mapped[str | None] = mapped_column(Text)  # of the page that it led to; none while it is being answered
    sent_at: Mapped[datetime] = mapped_column(default=now, index=True)


class Invitation(Table):
    """Leave to make an account; only the sha256 of its code is kept."""

    __tablename__ = "invitations"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    uses_left: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime]


class DeviceLogin(Table):
    """A program that waits for its user to sign in elsewhere (RFC 8628); only hashes of its codes are kept."""

    __tablename__ = "device_logins"

    device_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    account_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))  # who approved it
    denied: Mapped[bool] = mapped_column(default=False)
    asked_at: Mapped[datetime | None]  # when the program last asked
    expires_at: Mapped[datetime]


class LinkPurpose(StrEnum):
    """What a link in a mail is for."""

    EMAIL = "email"  # to verify an address
    PASSWORD = "password"  # to choose a new password  # noqa: S105


class MailLink(Mailed, Table):
    """A link that is sent to an address and works once; its code follows from `salt` and the hub's own secret."""

    __tablename__ = "mail_links"
    __table_args__ = (UniqueConstraint("account_id", "purpose"),)

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    purpose: Mapped[LinkPurpose]
    address: Mapped[str] = mapped_column(String(254))
    salt: Mapped[str] = mapped_column(String(64))
    sha256: Mapped[str] = mapped_column(String(64), unique=True)  # of the code
    expires_at: Mapped[datetime]
    account: Mapped[Account] = relationship(lazy="joined", innerjoin=True)


class SecurityNotice(Mailed, Table):
    """A mail that tells of changes to how an account signs in, from `created_at` on: the log has what they were."""

    __tablename__ = "security_notices"

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), unique=True)
    address: Mapped[str] = mapped_column(String(254))  # that the account had before the first of them
    account: Mapped[Account] = relationship(lazy="joined", innerjoin=True)
