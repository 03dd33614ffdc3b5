"""Uploads through the unmodified `huggingface_hub` client: one commit a repository, whole or absent."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from lmcommons.client import HTTPError
from lmcommons.data import benchmark
from lmcommons.errors import CommandError, RequestError
from lmcommons.files import read_json
from lmcommons.progress import say
from lmcommons.publishing import cards
from lmcommons.publishing.curve import training_curve
from lmcommons.publishing.task_cards import task_card
from lmcommons.recipe import PublishingRecipe, Recipe, TaskRecipe


@dataclass(frozen=True)
class Published:
    """A repository as it was published."""

    repository: str
    """namespace/name"""
    commit: str
    url: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def endpoint() -> str:
    """The hub to publish on.

    Raises:
        RequestError: HF_ENDPOINT is not set; there is no default, so that nothing is published by accident.
    """
    found = os.environ.get("HF_ENDPOINT", "").rstrip("/")
    if not found:
        raise RequestError(
            "publishing: HF_ENDPOINT is not set; name the hub, as in HF_ENDPOINT=http://127.0.0.1:8000, "
            "or remove `publishing` from the recipe"
        )
    return found


class Hub:
    """A hub, a member's token, and where the recipe's results go."""

    def __init__(self, api: HfApi, recipe: Recipe | TaskRecipe, publishing: PublishingRecipe, namespace: str) -> None:
        self.api, self.publishing = api, publishing
        self.url = str(api.endpoint)
        self.dataset = f"{namespace}/{publishing.dataset or recipe.name + '-data'}"
        self.model = f"{namespace}/{publishing.model or recipe.name}"

    @classmethod
    def connect(cls, recipe: Recipe | TaskRecipe) -> "Hub":
        """Sign in with HF_TOKEN at HF_ENDPOINT.

        Raises:
            RequestError: no endpoint, no token, or a token that the hub does not know.
            CommandError: the hub does not answer.
        """
        assert recipe.publishing is not None
        url, token = endpoint(), os.environ.get("HF_TOKEN")
        if not token:
            raise RequestError(f"publishing: HF_TOKEN is not set; {url} needs a token with the role write")
        api = HfApi(endpoint=url, token=token)
        with one_line(url):
            me = api.whoami()
        return cls(api, recipe, recipe.publishing, recipe.publishing.namespace or me["name"])

    def has(self, *published: dict[str, Any]) -> bool:
        """Whether the commits are still what the repositories show: of a dataset and a model, or of a model alone."""
        for kind, entry in zip(("dataset", "model")[-len(published) :], published, strict=True):
            with one_line(self.url):
                try:
                    info = self.api.repo_info(entry["repository"], repo_type=kind)
                except RepositoryNotFoundError:
                    return False
            if info.sha != entry["commit"]:
                return False
        return True

    def publish_dataset(self, recipe: Recipe, directory: Path, report: dict[str, Any]) -> Published:
        """Push the Parquet files of the data stage with their report, a card, and `eval.yaml` for a benchmark.

        Where another recipe has published the same data there, its commit is what this one's model was trained on too.
        """
        files: dict[str, Path | str] = {
            str(path.relative_to(directory)): path for path in sorted(directory.glob("data/*.parquet"))
        }
        files["report.json"] = directory / "report.json"
        files["recipe.yaml"] = directory / "recipe.yaml"
        files["README.md"] = cards.dataset_card(recipe, self.dataset, report)
        if self.publishing.benchmark:
            files[benchmark.FILE] = benchmark.benchmark(
                f"Text of {recipe.name}",
                f"Bits that a model needs for each UTF-8 byte of the test split; no {recipe.data.overlap_ngram} words "
                "in a row of it stand in the train split.",
                ["bits_per_byte"],
            )
        if known := self._same_data(recipe.name, read_json(directory / "stage.json")["key"], set(files)):
            say(f"dataset {known.url}: another recipe has put the same data there, at {known.commit[:12]}")
            return known
        return self._push("dataset", self.dataset, files, f"Dataset of {recipe.name}")

    def publish_model(
        self,
        recipe: Recipe,
        *,
        training: Path,
        training_report: dict[str, Any],
        results: dict[str, Any],
        dataset: Published,
    ) -> Published:
        """Push the `transformers` directory with its recipe, curve, results and card."""
        from lmcommons import evaluation
        from lmcommons import recipe as recipes

        model = training / "model"
        files: dict[str, Path | str] = {path.name: path for path in sorted(model.iterdir()) if path.is_file()}
        files["metrics.jsonl"] = training / "metrics.jsonl"
        files["training_curve.svg"] = training_curve(
            training / "metrics.jsonl", f"{recipe.name}: training and validation"
        )
        files["recipe.yaml"] = recipes.dump(recipe)
        files["results.json"] = cards.json_text(results)
        files[f".eval_results/{dataset.repository.rsplit('/', 1)[-1]}.yaml"] = evaluation.eval_results(
            results, dataset=dataset.repository, revision=dataset.commit, source=self._evidence("results.json")
        )
        files["README.md"] = cards.model_card(
            recipe,
            repository=self.model,
            endpoint=self.url,
            dataset=dataset,
            training=training_report,
            results=results,
            samples=cards.samples(recipe, model),
        )
        return self._push("model", self.model, files, f"{recipe.name}, trained on {dataset.repository}")

    def publish_task_model(
        self,
        recipe: TaskRecipe,
        directory: Path,
        report: dict[str, Any],
        *,
        model: str | None,
        dataset: str | None,
    ) -> Published:
        """Push the fine-tuned model in `directory`, with its recipe, report, results and card.

        `model` and `dataset` are `namespace/name@commit` of what it began as and of its rows; None where they lie in no
        repository.
        """
        from lmcommons import recipe as recipes
        from lmcommons.evaluation.metrics import task_eval_results

        files: dict[str, Path | str] = {
            path.name: path for path in sorted((directory / "model").iterdir()) if path.is_file()
        }
        files |= {f"adapter/{path.name}": path for path in sorted((directory / "adapter").glob("*"))}
        files["metrics.jsonl"] = directory / "metrics.jsonl"
        files["report.json"] = cards.json_text(report)
        files["recipe.yaml"] = recipes.dump(recipe)
        if dataset is not None:
            files[f".eval_results/{dataset.partition('@')[0].rpartition('/')[2]}.yaml"] = task_eval_results(
                report["tests"], dataset, source=self._evidence("report.json")
            )
        files["README.md"] = task_card(
            recipe, report, repository=self.model, endpoint=self.url, model=model, dataset=dataset
        )
        return self._push("model", self.model, files, f"{recipe.name}, fine-tuned for {recipe.finetuning.task}")

    def create(self, kind: str, repository: str) -> None:
        """Make a repository, unless it is there.

        Raises:
            RequestError: HF_TOKEN may not. CommandError: the hub does not answer.
        """
        with one_line(f"{self.url}, {kind} {repository}"):
            self.api.create_repo(repository, repo_type=kind, private=self.publishing.private, exist_ok=True)

    def _same_data(self, recipe: str, key: str, names: set[str]) -> Published | None:
        """The dataset as it stands, where a recipe of another name made it of the same data, with the files `names`."""
        from lmcommons import recipe as recipes

        with one_line(f"{self.url}, dataset {self.dataset}"):
            try:
                info = self.api.dataset_info(self.dataset)
                if not names <= {file.rfilename for file in info.siblings or []}:
                    return None
                found = self.api.hf_hub_download(self.dataset, "recipe.yaml", repo_type="dataset", revision=info.sha)
            except RepositoryNotFoundError:
                return None
        try:
            there = recipes.load(Path(found))
        except RequestError:  # of another version of the recipe
            return None
        if there.name == recipe or there.provenance is None or there.provenance.stages.get("data") != key:
            return None
        return Published(self.dataset, str(info.sha), f"{self.url}/datasets/{self.dataset}")

    def _evidence(self, report: str) -> str:
        """Where the report of the model's results can be read."""
        return f"{self.url}/{self.model}/blob/main/{report}"

    def _push(self, kind: str, repository: str, files: dict[str, Path | str], message: str) -> Published:
        """Make the repository hold exactly `files` (a path, or text), in one commit on main."""
        self.create(kind, repository)
        with one_line(f"{self.url}, {kind} {repository}"):
            present = set(self.api.list_repo_files(repository, repo_type=kind)) - {".gitattributes"}
            operations: list[CommitOperationAdd | CommitOperationDelete] = [
                CommitOperationAdd(name, content.encode() if isinstance(content, str) else content)
                for name, content in files.items()
            ]
            operations += [CommitOperationDelete(name) for name in sorted(present - set(files))]
            commit = self.api.create_commit(repository, operations, commit_message=message, repo_type=kind)
        page = f"{self.url}/datasets/{repository}" if kind == "dataset" else f"{self.url}/{repository}"
        say(f"published {kind} {page} at {commit.oid[:12]}")
        return Published(repository, commit.oid, page)


@contextmanager
def one_line(where: str) -> Iterator[None]:
    """Turn what the client raises into one line that says what the hub answered."""
    try:
        yield
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        said = error.server_message or str(error).splitlines()[0]
        wrong = RequestError if status in (400, 401, 403, 404, 409) else CommandError
        raise wrong(f"{where}: {status} {said}") from error
    except (HTTPError, ConnectionError, OSError) as error:
        raise CommandError(f"{where}: the hub does not answer ({type(error).__name__}: {error})") from error
