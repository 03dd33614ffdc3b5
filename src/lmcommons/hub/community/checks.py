"""Checks of a pull request: what speaks for and against merging it, for those who decide."""

from collections.abc import Sequence
from dataclasses import dataclass

from lmcommons.hub.accounts.permissions import Action, Actor, allowed
from lmcommons.hub.community.pull_requests import PullRequests
from lmcommons.hub.community.reviews import Reviews, Standing
from lmcommons.hub.database.tables import (
    Account,
    Discussion,
    DiscussionStatus,
    Repository,
    RepositoryType,
    Verdict,
)
from lmcommons.hub.errors import RevisionNotFound
from lmcommons.hub.repos import cards
from lmcommons.hub.repos.details import CARD, read_text
from lmcommons.hub.repos.evaluation import BENCHMARK, parse_benchmark, result_files
from lmcommons.hub.repos.git import GitRepository
from lmcommons.hub.repos.leaderboards import Leaderboards
from lmcommons.hub.repos.repositories import Repositories
from lmcommons.hub.words import Words


@dataclass(frozen=True)
class Checks:
    """What speaks for and against merging a pull request; with `gone`, the branch it is for was removed.

    `conflicts` are paths, `ahead` and `behind` commits, `problems` what is wrong with files that it changes, a line
    each, and `results` the evaluation results that they state. `head` is its last commit; reviews may be of others.
    """

    conflicts: Sequence[str] = ()
    ahead: int = 0
    behind: int = 0
    gone: bool = False
    problems: Sequence[str] = ()
    results: int = 0
    head: str | None = None
    standings: Sequence[Standing] = ()
    asked: Sequence[Account] = ()

    @property
    def waiting(self) -> list[str]:
        """Who asked for changes and did not approve since."""
        return [each.reviewer.name for each in self.standings if each.verdict is Verdict.REQUEST_CHANGES]

    @property
    def approved(self) -> list[str]:
        """Who approved what would be merged."""
        return [each.reviewer.name for each in self._approving if each.commit == self.head]

    @property
    def approved_before(self) -> list[str]:
        """Who approved an earlier commit, and has said nothing of what came since."""
        return [each.reviewer.name for each in self._approving if each.commit != self.head]

    @property
    def may_merge(self) -> bool:
        """Whether git could merge it."""
        return not self.gone and not self.conflicts and self.ahead > 0

    @property
    def _approving(self) -> list[Standing]:
        return [each for each in self.standings if each.verdict is Verdict.APPROVE]


class Checking:
    """Checks a hub's pull requests."""

    def __init__(
        self, repositories: Repositories, pull_requests: PullRequests, reviews: Reviews, leaderboards: Leaderboards
    ) -> None:
        self._repositories = repositories
        self._pull_requests = pull_requests
        self._reviews = reviews
        self._leaderboards = leaderboards

    def of(self, actor: Actor, repository: Repository, discussion: Discussion) -> Checks:
        """The checks of a pull request; of one that is not open only the reviews.

        What is wrong with files is for those who may read them.
        """
        standings, asked = self._reviews.standings(discussion), self._reviews.asked(discussion)
        git = self._repositories.git(repository)
        if discussion.status not in (DiscussionStatus.OPEN, DiscussionStatus.DRAFT):
            return Checks(standings=standings, asked=asked)
        head = git.resolve(discussion.ref)
        try:
            compared = self._pull_requests.compared(repository, discussion)
            conflicts = self._pull_requests.proposal(actor, repository, discussion, diff=False).conflicts
            ahead, behind = self._pull_requests.distance(repository, discussion)
        except RevisionNotFound:
            return Checks(gone=True, head=head, standings=standings, asked=asked)
        problems: list[str] = []
        if allowed(actor, Action.READ, repository):
            before = _problems(git, compared.base, repository.type)
            problems = [each for each in _problems(git, head, repository.type) if each not in before]
        results = self._leaderboards.stated(repository, discussion.number)
        return Checks(conflicts, ahead, behind, False, problems, results, head, standings, asked)


def _problems(git: GitRepository, commit: str, type_: RepositoryType) -> list[str]:
    """What is wrong with the files of a commit that the hub reads, a line each."""
    found: list[str] = []
    try:
        cards.parse_metadata(cards.front_matter(read_text(git, commit, CARD)) or "")
    except ValueError as error:
        found.append(Words("{file}: {reason}", file=CARD, reason=error))
    if type_ is RepositoryType.MODEL:
        stated = result_files(git, commit)
        found += [Words("{file}: {reason}", file=file.filename, reason=file.error) for file in stated if file.error]
    if type_ is RepositoryType.DATASET and (text := read_text(git, commit, BENCHMARK)):
        try:
            parse_benchmark(text)
        except ValueError as error:
            found.append(Words("{file}: {reason}", file=BENCHMARK, reason=error))
    return found
