"""The hub without HTTP: all rooms, opened once and given to every door."""

import secrets

from lmcommons.errors import CommandError
from lmcommons.files import write_text
from lmcommons.hub.accounts.accounts import Accounts
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.objects.store import ObjectStore
from lmcommons.hub.repos.commits import Commits
from lmcommons.hub.repos.contents import Contents
from lmcommons.hub.repos.repositories import Repositories
from lmcommons.hub.settings import Settings


class Hub:
    """An open hub; `app.state.hub` in requests, and what `lmc hub` commands use."""

    def __init__(self, settings: Settings) -> None:
        """Open the data directory and database of `settings`, making them when they are new.

        Raises:
            CommandError: either cannot be opened, or a newer version made it.
        """
        self.settings = settings
        with settings.open_data():
            self.secret = _secret(settings)
            self.database = Database(settings)
        self.objects = ObjectStore(settings.objects_dir)
        self.accounts = Accounts(self.database)
        self.repositories = Repositories(self.database, settings.repositories_dir)
        self.contents = Contents(self.repositories, self.objects)
        self.commits = Commits(self.repositories, self.objects)

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def check(self) -> list[str]:
        """What is wrong in the data directory, a line each: every object is hashed again, every ref followed."""
        problems = [
            f"object {sha256}: content does not have this sha256"
            for sha256 in self.objects
            if not self.objects.is_intact(sha256)
        ]
        for repository in self.repositories.all():
            git = self.repositories.git(repository)
            if not git.path.is_dir():
                problems.append(f"{repository.path}: no git directory {git.path}")
                continue
            problems.extend(f"{repository.path}: {problem}" for problem in git.check())
            problems.extend(
                f"{repository.path}: object {sha256} is missing"
                for sha256 in self.repositories.objects_of(repository)
                if self.objects.size(sha256) is None
            )
        return problems


def _secret(settings: Settings) -> bytes:
    """The key that signs upload addresses; made once, readable by the hub's user alone."""
    path = settings.data / "secret"
    if not path.exists():
        write_text(path, secrets.token_hex(32))
        path.chmod(0o600)
    try:
        return bytes.fromhex(path.read_text())
    except (OSError, ValueError) as error:
        raise CommandError(f"{path}: cannot be read; restore it, or remove it to make a new one") from error
