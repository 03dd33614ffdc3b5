"""Real data of tasks from packages of ordinary registries (Debian, PyPI, npm), made into rows to fine-tune on.

`build` is the place to begin; `source` says what a source is, `packages` fetches and reads packages, `help_pages`
reads LibreOffice's help, and each other module is a source. Imports nothing of the house but the recipe and the rest of
`data`, beside the errors, files and progress that all share.
"""

from lmcommons.data.tasks import answers, dialogue, mail, markup, reviews, translation
from lmcommons.data.tasks.build import build
from lmcommons.data.tasks.packages import Package, fetch, members
from lmcommons.data.tasks.source import TaskSource

SOURCES: dict[str, TaskSource] = {
    "sentiment-zh": reviews.SOURCE,
    "spam": mail.SOURCE,
    "translation-en-zh": translation.source("zh"),
    "translation-en-de": translation.source("de"),
    "qa-extractive": answers.source("extractive"),
    "qa-generative": answers.source("generative"),
    "markup-en": markup.SOURCE,
    "chat": dialogue.SOURCE,
}

__all__ = ["SOURCES", "Package", "TaskSource", "build", "fetch", "members"]
