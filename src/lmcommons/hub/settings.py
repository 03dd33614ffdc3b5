"""How a hub is set up: one object, made at the edge and passed in."""

import importlib.util
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from lmcommons.errors import CommandError, RequestError
from lmcommons.files import exclusive_lock, read_json, write_failure, write_json
from lmcommons.hub.mail_server import MailServer

DATA_FORMAT = 1  # layout of the data directory; a hub refuses to open a newer one
MARKER = "hub.json"
S3 = "s3://"
HOST, PORT = "127.0.0.1", 7860  # where a hub listens unless it is told otherwise
ABOUT_LIMIT = 20_000  # bytes of the operator's text, which every visit of the first page loads
LOCK = ".opening"  # held while a process opens the directory: `serve` and `user add` may start together


class SignUp(StrEnum):
    """Who may make an account: everybody, those with an invitation, or nobody but the operator."""

    OPEN = "open"
    INVITE = "invite"
    CLOSED = "closed"


@dataclass(frozen=True)
class Settings:
    """Where a hub keeps its data and how it is reached; `Settings.make` checks and completes the values."""

    data: Path
    host: str
    port: int
    public_url: str
    database_url: str
    objects_dir: Path  # large files by sha256; with an `objects_url`, those that are being received
    objects_url: str | None = None  # s3://…, see `objects/s3.py`
    accel: str | None = None  # begins the address by which the proxy finds a file of `objects_dir`
    sign_up: SignUp = SignUp.CLOSED
    member_organisations: bool = False  # every user may make organisations, not only administrators
    rate_limit: int = 30_000  # requests of one account or address in five minutes; 0 is no limit
    counters: Path | None = None  # file in which several processes count them together
    allow_private_webhooks: bool = False  # webhooks may reach addresses of the hub's own network
    stall_limit: float = 60  # seconds for a request's header, and that its body or a clone may pause
    part_size: int = 256 << 20  # bytes; a larger object is uploaded in parts of this size
    mail: MailServer | None = None  # sends notifications to those who want them by mail
    about: str | None = None  # Markdown with which the operator begins the first page
    try_models: Mapping[str, str] = field(default_factory=dict)  # by namespace/name, the server that answers for it
    try_token: str | None = field(default=None, repr=False)  # that these servers want
    ssh_url: str | None = None  # what addresses of git over SSH begin with; None: there is no SSH
    import_from: tuple[str, ...] = ()  # addresses of hubs from which members may import repositories

    @classmethod
    def make(
        cls,
        data: Path,
        *,
        host: str = HOST,
        port: int = PORT,
        public_url: str | None = None,
        database: str | None = None,
        objects: str | None = None,
        accel: str | None = None,
        sign_up: str = sign_up,
        member_organisations: bool = member_organisations,
        rate_limit: int = rate_limit,
        allow_private_webhooks: bool = allow_private_webhooks,
        stall_limit: float = stall_limit,
        smtp: str | None = None,
        mail_from: str | None = None,
        smtp_password: str | None = None,
        about: Path | None = None,
        try_models: Sequence[str] = (),
        try_token: str | None = None,
        ssh_port: int | None = None,
        ssh_url: str | None = None,
        import_from: Sequence[str] = (),
    ) -> "Settings":
        """Settings of the hub in `data`, which need not exist yet.

        Args:
            public_url: the address that users see, when a proxy stands before the hub; default `http://host:port`.
            database: SQLAlchemy URL; default a SQLite file in the data directory.
            objects: a directory, `file:///` URL or `s3://` location for large files, recorded when the hub is made;
                default in `data`.
            accel: the internal location, as `/internal/`, at which nginx serves the objects directory; files are
                then answered with X-Accel-Redirect.
            smtp: the server that sends mail, as `MailServer.parse` takes it; default none, and no mail.
            about: a Markdown file that says what this commons is; it is read now.
            import_from: addresses of hubs from which members may import what everybody may see there.
            try_models: `NAMESPACE/NAME=URL` each, the server with OpenAI's API at which a model can be tried.
            ssh_port: where git is served over SSH; default none.
            ssh_url: what users write before a repository's name; default `ssh://git@HOST:PORT` with the host of
                `public_url`.

        Raises:
            RequestError: a value that cannot work, named in one line.
        """
        data = data.expanduser().absolute()
        if public_url is not None and (
            urlsplit(public_url).scheme not in ("http", "https") or not urlsplit(public_url).netloc
        ):
            raise RequestError(f"--public-url {public_url}: not an address like https://hub.example.org")
        if sign_up not in list(SignUp):
            raise RequestError(f"--sign-up {sign_up}: one of {', '.join(SignUp)}")
        if mail_from is not None and smtp is None:
            raise RequestError(
                f"--mail-from {mail_from}: name the server that sends it too, by --smtp smtp://HOST:PORT"
            )
        if ssh_url is not None and ssh_port is None:
            raise RequestError(f"--ssh-url {ssh_url}: name the port to listen on too, by --ssh-port PORT")
        place = _objects(objects, data)
        is_url = place.startswith(S3)
        if accel is not None and (is_url or not accel.startswith("/")):
            raise RequestError(f"--accel {accel}: give nginx's location, as /internal/, of objects in a directory")
        shown_host = f"[{host}]" if ":" in host else host
        public_url = (public_url or f"http://{shown_host}:{port}").rstrip("/")
        return cls(
            data=data,
            host=host,
            port=port,
            public_url=public_url,
            database_url=_database_url(database, data),
            objects_dir=data / "objects" if is_url else Path(place),
            objects_url=place if is_url else None,
            accel=accel and accel.rstrip("/") + "/",
            sign_up=SignUp(sign_up),
            member_organisations=member_organisations,
            rate_limit=rate_limit,
            allow_private_webhooks=allow_private_webhooks,
            stall_limit=stall_limit,
            mail=MailServer.parse(smtp, mail_from, smtp_password) if smtp is not None else None,
            about=_about(about) if about is not None else None,
            try_models=dict(map(_endpoint, try_models)),
            try_token=try_token,
            ssh_url=_ssh_url(ssh_url, public_url, ssh_port) if ssh_port is not None else None,
            import_from=tuple(map(_origin, import_from)),
        )

    @property
    def repositories_dir(self) -> Path:
        """Bare git repositories."""
        return self.data / "repositories"

    @contextmanager
    def open_data(self) -> Iterator[None]:
        """Make the data directory, or check that it is one of ours; the block runs while no other process opens it.

        Raises:
            CommandError: it cannot be written, holds something else, or was made by a newer version.
        """
        try:
            self.data.mkdir(mode=0o700, parents=True, exist_ok=True)  # private repositories are in it
            present = list(self.data.iterdir())
            if present and not any((self.data / own).exists() for own in (MARKER, LOCK)):
                raise RequestError(f"{self.data}: has files but no {MARKER}; choose an empty directory or a hub's")
        except FileExistsError as error:
            raise RequestError(f"{self.data}: is a file; --data needs a directory") from error
        except OSError as error:
            raise write_failure(self.data, error) from error
        with exclusive_lock(self.data / LOCK):
            marker = self.data / MARKER
            if marker.exists():
                _check_format(marker)
            try:
                self.repositories_dir.mkdir(exist_ok=True)
                self.objects_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise write_failure(self.data, error) from error
            yield
            if not marker.exists():  # only now: a place that could not be opened is not remembered
                place = self.objects_url or str(self.objects_dir)
                inside = place == str(self.data / "objects")  # then the data directory can be moved
                write_json(marker, {"format": DATA_FORMAT} | ({} if inside else {"objects": place}))


def _check_format(marker: Path) -> None:
    found = read_json(marker)
    version = found.get("format") if isinstance(found, dict) else None
    if not isinstance(version, int):
        raise CommandError(f"{marker}: not a hub's marker; restore it from a backup")
    if version > DATA_FORMAT:
        raise CommandError(
            f"{marker.parent}: made by a newer lmcommons (format {version}, this one reads {DATA_FORMAT}); upgrade"
        )


def _objects(given: str | None, data: Path) -> str:
    """Where large files lie: as the data directory's marker says, else as given, else in the data directory."""
    marker = data / MARKER
    found = read_json(marker) if marker.is_file() else {}
    recorded = found.get("objects") if isinstance(found, dict) else None
    present = recorded if isinstance(recorded, str) else str(data / "objects")
    if given is None:
        return present
    scheme, separator, path = given.partition("://")  # an endpoint after it has a :// too
    if separator and scheme != "s3" and (scheme != "file" or not path.startswith("/")):
        raise RequestError(f"--objects {given}: supported are a directory, file:///DIRECTORY and s3://BUCKET/PREFIX")
    wanted = given if given.startswith(S3) else str(Path(path if separator else given).expanduser().absolute())
    if marker.is_file() and wanted != present:
        raise RequestError(
            f"--objects {given}: this hub keeps them in {present}; "
            f"to move them, stop it, move all that is there and write the new place into {marker}"
        )
    return wanted


def _about(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(ABOUT_LIMIT + 1)
    except OSError as error:
        raise RequestError(f"--about {path}: {error.strerror}; give a Markdown file") from error
    if len(content) > ABOUT_LIMIT:
        raise RequestError(f"--about {path}: longer than {ABOUT_LIMIT:,} bytes; say less, and link to the rest")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise RequestError(f"--about {path}: byte {error.start} is not UTF-8; give a Markdown file") from error


def _database_url(given: str | None, data: Path) -> str:
    if given is None:
        return f"sqlite:///{data / 'hub.sqlite3'}"
    scheme = given.split(":", 1)[0]
    if scheme == "sqlite":
        return given
    if scheme in ("postgresql", "postgresql+psycopg"):
        if importlib.util.find_spec("psycopg") is None:
            raise RequestError(
                "--database postgresql://…: psycopg is not installed; run: pip install 'psycopg[binary]'"
            )
        return "postgresql+psycopg" + given[len(scheme) :]
    raise RequestError(f"--database {scheme}:…: supported are sqlite:///FILE and postgresql://USER@HOST/NAME")


def _origin(url: str) -> str:
    """The address of another hub."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        valid = False
    if not valid or parts.query or parts.fragment:
        raise RequestError(f"--import-from {url}: not the address of a hub, such as https://huggingface.co")
    return url.rstrip("/")


def _ssh_url(given: str | None, public_url: str, port: int) -> str:
    """What addresses over SSH begin with: as given, else at the host of the pages."""
    if given is None:
        host = urlsplit(public_url).hostname or ""
        return f"ssh://git@{f'[{host}]' if ':' in host else host}:{port}"
    if not re.fullmatch(r"ssh://[^\s/]+/?", given):
        raise RequestError(f"--ssh-url {given}: write ssh://git@HOST or ssh://git@HOST:PORT")
    return given.rstrip("/")


def _endpoint(text: str) -> tuple[str, str]:
    """A model and the base address of its server's API, of `NAMESPACE/NAME=URL`."""
    model, _, url = text.partition("=")
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and not parts.query
    except ValueError:
        valid = False
    if model.count("/") != 1 or not valid:
        raise RequestError(f"--try {text}: write NAMESPACE/NAME=URL, such as ada/my-model=http://127.0.0.1:8001")
    return model, f"{url.rstrip('/').removesuffix('/v1')}/v1"
