"""The hub without HTTP: all rooms, opened once and given to every door."""

import hashlib
import secrets
from contextlib import suppress

from pygit2 import GitError

from lmcommons.errors import CommandError
from lmcommons.files import write_text
from lmcommons.hub.accounts.access import Access
from lmcommons.hub.accounts.accounts import Accounts
from lmcommons.hub.accounts.browser_sessions import BrowserSessions
from lmcommons.hub.accounts.devices import DeviceLogins
from lmcommons.hub.accounts.joining import Joining
from lmcommons.hub.accounts.keys import Keys
from lmcommons.hub.accounts.limits import Limits
from lmcommons.hub.accounts.mail_links import MailLinks
from lmcommons.hub.accounts.organisation_invitations import OrganisationInvitations
from lmcommons.hub.accounts.organisations import Organisations
from lmcommons.hub.accounts.passwords import Passwords
from lmcommons.hub.accounts.profiles import Profiles
from lmcommons.hub.accounts.sent_forms import SentForms
from lmcommons.hub.accounts.sign_in import SignIn
from lmcommons.hub.accounts.tokens import Tokens
from lmcommons.hub.accounts.two_factor import TwoFactors
from lmcommons.hub.buckets.batch import Batches
from lmcommons.hub.buckets.buckets import Buckets
from lmcommons.hub.buckets.feed import Feed
from lmcommons.hub.buckets.files import BucketFiles
from lmcommons.hub.community.activity import Activity
from lmcommons.hub.community.attachments import Attachments
from lmcommons.hub.community.checks import Checking
from lmcommons.hub.community.collections import Collections
from lmcommons.hub.community.deliveries import Deliveries
from lmcommons.hub.community.discussions import Discussions
from lmcommons.hub.community.follows import Follows
from lmcommons.hub.community.letters import Letters
from lmcommons.hub.community.likes import Likes
from lmcommons.hub.community.line_comments import LineComments
from lmcommons.hub.community.mail import Mail
from lmcommons.hub.community.mentions import Mentions
from lmcommons.hub.community.moderation import Moderation
from lmcommons.hub.community.notifications import Notifications, tell_of_access
from lmcommons.hub.community.pull_requests import PullRequests
from lmcommons.hub.community.reactions import Reactions
from lmcommons.hub.community.reports import Reports
from lmcommons.hub.community.reviews import Reviews
from lmcommons.hub.community.runs import Runs
from lmcommons.hub.community.trying import Trials
from lmcommons.hub.community.webhooks import Webhooks
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.errors import HubError, StorageUnavailable
from lmcommons.hub.objects.blobs import Blobs, DiskBlobs
from lmcommons.hub.objects.location import Location
from lmcommons.hub.objects.s3 import S3Blobs
from lmcommons.hub.objects.store import ObjectStore
from lmcommons.hub.objects.xet.store import XetStore
from lmcommons.hub.repos.commits import Commits
from lmcommons.hub.repos.comparing import Comparisons
from lmcommons.hub.repos.contents import Contents
from lmcommons.hub.repos.datasets import Datasets
from lmcommons.hub.repos.editing import Editing
from lmcommons.hub.repos.facets import Facets
from lmcommons.hub.repos.large_files import LargeFiles
from lmcommons.hub.repos.last_commits import LastCommits
from lmcommons.hub.repos.leaderboards import Leaderboards
from lmcommons.hub.repos.lineage import Lineage
from lmcommons.hub.repos.locks import Locks
from lmcommons.hub.repos.push import Pushes
from lmcommons.hub.repos.repositories import Repositories
from lmcommons.hub.repos.search import Search
from lmcommons.hub.repos.statistics import Statistics
from lmcommons.hub.repos.uploads import Uploads
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
            blobs = open_blobs(settings)
            if isinstance(blobs, S3Blobs):
                blobs.claim(hashlib.sha256(self.secret).hexdigest()[:16])
            self.database = Database(settings)
        self.objects = ObjectStore(blobs, XetStore(self.database, blobs))
        self.accounts = Accounts(self.database)
        self.profiles = Profiles(self.database)
        self.organisations = Organisations(self.database, by_members=settings.member_organisations)
        self.organisation_invitations = OrganisationInvitations(self.database)
        self.tokens = Tokens(self.database)
        self.keys = Keys(self.database, self.secret)
        self.two_factors = TwoFactors(self.database, self.secret)
        self.mail_links = MailLinks(self.database, self.secret, is_sent=settings.mail is not None)
        passwords = Passwords()
        self.browser_sessions = BrowserSessions(self.database)
        self.joining = Joining(self.database, settings.sign_up, passwords, self.browser_sessions, self.mail_links)
        self.sign_in = SignIn(
            self.database, passwords, self.browser_sessions, self.two_factors, self.mail_links, self.secret
        )
        self.sent_forms = SentForms(self.database)
        self.device_logins = DeviceLogins(self.database)
        self.access = Access(self.database)
        self.limits = Limits(settings.rate_limit, settings.counters)
        self.repositories = Repositories(self.database, settings.repositories_dir)
        self.search = Search(self.database)
        self.facets = Facets(self.database)
        self.contents = Contents(self.repositories, self.objects)
        self.last_commits = LastCommits(self.database, self.repositories)
        self.commits = Commits(self.repositories, self.objects, self.contents, self.last_commits)
        self.editing = Editing(self.repositories, self.commits)
        self.uploads = Uploads(self.accounts, self.objects, self.contents, self.commits)
        self.datasets = Datasets(self.repositories, self.contents, self.commits)
        self.statistics = Statistics(self.database, self.datasets)
        self.pushes = Pushes(self.accounts, self.repositories, self.commits)
        self.large_files = LargeFiles(self.database, self.repositories, self.contents, self.commits)
        self.attachments = Attachments(self.database, self.objects)
        self.webhooks = Webhooks(self.database, allow_private=settings.allow_private_webhooks)
        self.deliveries = Deliveries(self.database, settings.public_url, allow_private=settings.allow_private_webhooks)
        self.collections = Collections(self.database, self.repositories)
        self.likes = Likes(self.database)
        self.follows = Follows(self.database)
        self.discussions = Discussions(self.database)
        self.pull_requests = PullRequests(self.database, self.repositories, self.commits)
        self.reviews = Reviews(self.database, self.repositories)
        self.line_comments = LineComments(self.database, self.repositories, self.pull_requests)
        self.reactions = Reactions(self.database)
        self.mentions = Mentions(self.database)
        self.notifications = Notifications(self.database)
        letters = Letters(self.mail_links, settings.public_url)
        self.mail = Mail(self.database, self.notifications, letters, settings.mail)
        self.access.listeners.append(tell_of_access)
        self.reports = Reports(self.database, self.repositories)
        self.moderation = Moderation(self.database, self.repositories)
        self.trials = Trials(settings.try_models, settings.try_token)
        self.runs = Runs(self.database)
        self.locks = Locks(self.database)
        self.leaderboards = Leaderboards(self.database, self.repositories)
        self.checking = Checking(self.repositories, self.pull_requests, self.reviews, self.leaderboards)
        self.lineage = Lineage(self.database)
        self.comparisons = Comparisons(self.repositories, self.objects, self.contents, self.leaderboards)
        self.activity = Activity(self.database)
        self.buckets = Buckets(self.database, self.accounts)
        self.bucket_files = BucketFiles(self.database)
        self.bucket_feed = Feed(self.database)
        self.bucket_batches = Batches(
            self.database, self.buckets, self.bucket_files, self.repositories, self.accounts, self.objects.xet
        )
        self.commits.listeners += [self.leaderboards.follow, self.reports.watch]
        self.repositories.removing.append(self.discussions.remove_all)

    def index(self) -> None:
        """Index what has no index; a repository that is damaged stays without, for `check` to find."""
        for repository in self.search.outdated():
            with suppress(HubError, GitError):
                self.commits.refresh(repository)
        self.discussions.index()

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
            found = git.check() or self.last_commits.check(repository)
            problems.extend(f"{repository.path}: {problem}" for problem in found)
            linked = self.repositories.objects_of(repository)
            missing = set(linked) - self.objects.sizes(linked).keys()
            problems.extend(f"{repository.path}: object {sha256} is missing" for sha256 in sorted(missing))
        problems.extend(self.objects.xet.check())
        problems.extend(self.bucket_files.check())
        return problems


def open_blobs(settings: Settings) -> Blobs:
    """Where the objects of the hub lie."""
    if settings.objects_url is None:
        return DiskBlobs(settings.objects_dir)
    try:
        return S3Blobs(Location.parse(settings.objects_url), settings.objects_dir)
    except StorageUnavailable as error:
        raise CommandError(f"--objects {settings.objects_url}: {error.message}") from error


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
