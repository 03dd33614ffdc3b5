"""New tokens, and what is stored of them and of other secrets."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from lmcommons.hub.accounts.permissions import Scopes
from lmcommons.hub.database.tables import Account, Token, TokenRole, now

PREFIX = "hf_"  # what clients and secret scanners recognise
ACCESS_LIFE = timedelta(days=7)  # of a token that can be renewed


@dataclass(frozen=True)
class TokenPair:
    """A token that ends after `seconds`, and the secret that renews it."""

    access: str
    refresh: str
    seconds: int


def digest(secret: str) -> str:
    """What is stored of a secret; of one with more than 128 random bits, looking it up tells nothing about others."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


def issue(
    session: Session,
    account: Account,
    name: str,
    role: TokenRole,
    *,
    scopes: Scopes | None = None,
    expires_at: datetime | None = None,
) -> str:
    """Store a new token of `account` and return its text."""
    text = _new_token()
    stored = {"repositories": {**scopes.repositories}, "accounts": {**scopes.accounts}} if scopes else None
    session.add(
        Token(account_id=account.id, name=name, sha256=digest(text), role=role, scopes=stored, expires_at=expires_at)
    )
    return text


def issue_pair(session: Session, token: Token) -> TokenPair:
    """Give `token`, new or stored, a new text and a new secret to renew it with; former ones end."""
    access, refresh = _new_token(), secrets.token_urlsafe(32)
    token.sha256, token.refresh_sha256 = digest(access), digest(refresh)
    token.expires_at = now() + ACCESS_LIFE
    session.add(token)
    return TokenPair(access, refresh, int(ACCESS_LIFE.total_seconds()))


def _new_token() -> str:
    return PREFIX + secrets.token_urlsafe(32).replace("-", "A").replace("_", "b")
