"""SSH keys: whom they speak for, which are taken, and the hub's own; how the hub is asked for large files with one."""

import hashlib
import hmac
import logging
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cached_property

import asyncssh
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError, OperationalError

from lmcommons.hub.accounts.accounts import find_user
from lmcommons.hub.accounts.notices import log_change
from lmcommons.hub.accounts.permissions import Action, Actor, Scopes
from lmcommons.hub.accounts.tokens import load_actor
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Event, SshKey, TokenRole, now
from lmcommons.hub.errors import BadRequest, Busy, Conflict, InsufficientStorage, NotFound, Unauthorized

KINDS = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-rsa",
)
RSA_BITS = (3072, 8192)  # NIST SP 800-57 part 1, table 2, 128 bits of security; more only takes time
NAME_LIMIT, TEXT_LIMIT = 96, 8_000  # characters
KEYS_LIMIT = 50  # of one account
USE_PRECISION = timedelta(hours=1)  # of `last_used_at`: a write an hour, not one a command
TICKET_LIFE = 3_600  # seconds
TICKET = re.compile(r"lfs_(\d{1,18})\.(\d{1,18})\.(read|write)\.(\d{1,12})\.([0-9a-f]{64})", re.ASCII)

LOGGER = logging.getLogger(__name__)


class Keys:
    """The SSH keys of a hub's accounts."""

    def __init__(self, database: Database, secret: bytes) -> None:
        """`secret` is the hub's: its host key follows from it, and it signs tickets."""
        self._database = database
        self._secret = secret

    @cached_property
    def host_key(self) -> asyncssh.SSHKey:
        """The key by which the hub is known to SSH clients: ed25519, the same as long as the hub's secret is."""
        seed = hmac.new(self._secret, b"ssh host key", hashlib.sha256).digest()
        private = Ed25519PrivateKey.from_private_bytes(seed)
        return asyncssh.import_private_key(private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))

    def of(self, user: str) -> Sequence[SshKey]:
        """The keys of a user, the oldest first.

        Raises:
            NotFound: no such user.
        """
        with self._database.read() as session:
            chosen = select(SshKey).where(SshKey.account_id == find_user(session, user).id)
            return session.scalars(chosen.order_by(SshKey.id)).all()

    def add(self, user: str, name: str, text: str) -> SshKey:
        """Take a public key; its comment names it where `name` is empty.

        Args:
            text: the line of a file that ends in `.pub`.

        Raises:
            BadRequest: the key or its name cannot be taken, or the user has too many. Conflict: it is somebody's.
        """
        key = parse_key(text)
        name = name.strip() or _comment(key)
        if not 0 < len(name) <= NAME_LIMIT or not name.isprintable():
            raise BadRequest("A key's name has 1 to {limit} printable characters", limit=NAME_LIMIT)
        try:
            with self._database.write() as session:
                account = find_user(session, user)
                count = session.scalar(select(func.count()).where(SshKey.account_id == account.id)) or 0
                if count >= KEYS_LIMIT:
                    raise BadRequest("{account} has {limit} keys; remove one", account=account.name, limit=KEYS_LIMIT)
                added = SshKey(
                    account_id=account.id,
                    name=name,
                    kind=key.get_algorithm(),
                    fingerprint=key.get_fingerprint(),
                    public_key=_line(key),
                )
                session.add(added)
                session.flush()
                told = {"fingerprint": added.fingerprint}
                log_change(session, account, Event(kind="key.added", actor=account.name, data=told))
        except IntegrityError as error:
            raise Conflict("This key is in use on this hub, by you or somebody else; make another one") from error
        return added

    def remove(self, user: str, key_id: int) -> None:
        """Let a key sign in no more.

        Raises:
            NotFound: the user has no such key.
        """
        with self._database.write() as session:
            account = find_user(session, user)
            key = session.get(SshKey, key_id)
            if key is None or key.account_id != account.id:
                raise NotFound("{account} has no SSH key {key_id}", account=account.name, key_id=key_id)
            session.delete(key)
            session.add(Event(kind="key.removed", actor=account.name, data={"fingerprint": key.fingerprint}))

    def actor(self, fingerprint: str) -> Actor:
        """Who a key speaks for, with all the rights of the account.

        Raises:
            Unauthorized: it is nobody's, or its account is disabled.
        """
        with self._database.read() as session:
            key = session.scalar(select(SshKey).where(SshKey.fingerprint == fingerprint))
            if key is None or key.account.disabled:
                raise Unauthorized("This hub does not know the key {fingerprint}", fingerprint=fingerprint)
            return load_actor(session, key.account, TokenRole.WRITE, key.name)

    def note_use(self, fingerprint: str) -> None:
        """Remember that a key was used now."""
        used = update(SshKey).where(SshKey.fingerprint == fingerprint)
        late = SshKey.last_used_at.is_(None) | (SshKey.last_used_at < now() - USE_PRECISION)
        try:
            with self._database.read() as session:
                if session.scalar(select(SshKey.id).where(SshKey.fingerprint == fingerprint, late)) is None:
                    return
            with self._database.write() as session:
                session.execute(used.values(last_used_at=now()))
        except (OperationalError, Busy, InsufficientStorage) as error:
            LOGGER.warning("the last use of the key %s was not noted: %s", fingerprint, error)

    # ------------------------------------------------------------ tickets for large files, which travel over HTTP

    def ticket(self, fingerprint: str, repository_id: int, right: Action) -> str:
        """What stands for a token in requests about one repository, for an hour at most and while the key is known.

        Raises:
            Unauthorized: the key is nobody's.
        """
        with self._database.read() as session:
            key_id = session.scalar(select(SshKey.id).where(SshKey.fingerprint == fingerprint))
        if key_id is None:
            raise Unauthorized("This hub does not know the key {fingerprint}", fingerprint=fingerprint)
        signed = f"{key_id}.{repository_id}.{right}.{int(time.time()) + TICKET_LIFE}"
        return f"lfs_{signed}.{self._signature(signed, fingerprint)}"

    def actor_of(self, ticket: str) -> Actor | None:
        """Who a ticket speaks for; None where it is none.

        Raises:
            Unauthorized: it has expired, its key was removed, or its account is disabled.
        """
        parts = TICKET.fullmatch(ticket)
        if parts is None:
            return None
        key_id, repository_id, right, until, signature = parts.groups()
        signed = f"{key_id}.{repository_id}.{right}.{until}"
        with self._database.read() as session:
            key = session.get(SshKey, int(key_id))
        # Of this very key: the id of one that was removed may be another's.
        expected = self._signature(signed, key.fingerprint) if key is not None else ""
        if key is None or not hmac.compare_digest(expected, signature) or int(until) <= time.time():
            raise Unauthorized("Invalid credentials in Authorization header")
        return self.actor_by(key.id, key.account_id, Scopes({int(repository_id): Action(right)}))

    def actor_by(self, key_id: int, account_id: int, scopes: Scopes) -> Actor:
        """Who a key speaks for now that was let in before, by its id and its account's, within scopes.

        Raises:
            Unauthorized: it was removed, or its account is disabled.
        """
        with self._database.read() as session:
            key = session.get(SshKey, key_id)
            if key is None or key.account_id != account_id or key.account.disabled:
                raise Unauthorized("Invalid credentials in Authorization header")
            actor = load_actor(session, key.account, TokenRole.FINE_GRAINED, key.name, scopes)
        return replace(actor, key_id=key_id)

    def _signature(self, signed: str, fingerprint: str) -> str:
        return hmac.new(self._secret, f"lfs ticket {signed} {fingerprint}".encode(), hashlib.sha256).hexdigest()


def parse_key(text: str) -> asyncssh.SSHKey:
    """The public key in the line of a `.pub` file.

    Raises:
        BadRequest: it is none, or of a kind or size that is not taken.
    """
    text = text.strip()
    if "PRIVATE KEY" in text:
        raise BadRequest("This is the private key, which nobody but you should have: paste the file that ends in .pub")
    if len(text) > TEXT_LIMIT or (len(text.splitlines()) > 1 and not text.startswith("---- BEGIN SSH2")):
        raise BadRequest("Paste one key: the line of a file that ends in .pub")
    try:
        key = asyncssh.import_public_key(text.encode(errors="replace"))
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise BadRequest(
            "This is no SSH key: paste the line of a file that ends in .pub, such as: ssh-ed25519 AAAA… you@example"
        ) from error
    kind = key.get_algorithm()
    if kind not in KINDS:
        raise BadRequest("Keys of the kind {kind} are not taken; one of {choices}", kind=kind, choices=", ".join(KINDS))
    least, most = RSA_BITS
    if isinstance(key.pyca_key, RSAPublicKey) and not least <= key.pyca_key.key_size <= most:
        raise BadRequest(
            "An RSA key has {least} to {most} bits; this one has {bits}. Better make another: ssh-keygen -t ed25519",
            least=least,
            most=most,
            bits=key.pyca_key.key_size,
        )
    return key


def _comment(key: asyncssh.SSHKey) -> str:
    try:
        return (key.get_comment() or "").strip()
    except UnicodeDecodeError:
        return ""


def _line(key: asyncssh.SSHKey) -> str:
    """The key as a line, without its comment."""
    return b" ".join(key.export_public_key().split()[:2]).decode()
