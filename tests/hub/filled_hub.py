"""A hub with one of everything that pages show, for tests that look at all of them."""

import io
import json
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
from asyncssh import generate_private_key
from hub_process import HubProcess
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from open_rooms import open_rooms
from sqlalchemy import select
from weights import safetensors

from lmcommons.hub.community.runs import Description, Progress
from lmcommons.hub.database.tables import Event, MailLink, RepositoryType, Role, Webhook, WebhookDelivery

PASSWORD = "correct horse battery"
NEWS = 3  # the number of the pull request that adds NEWS.md
PEOPLE = ("ada", "ben", "zoe")  # the administrator, a member of the laboratory, somebody else

CARD = """---
license: apache-2.0
language: [en, zh]
pipeline_tag: text-generation
library_name: transformers
tags: [fiction, small]
datasets: [lab/stories, elsewhere/unknown]
---
# Tales

A model that tells **tales**. See the [notes](docs/notes.md) and ![Training curve](curve.svg)

| measure | value |
|:--|--:|
| bits per byte | 1.93 |

```python
print("hello")
```

> [!WARNING]
> It invents what it does not know.

- [x] trained
- [ ] understood

The loss is $L = -\\frac{1}{n}\\sum_i \\log p(x_i)$.
"""
CHINESE_CARD = """---
license: mit
language: zh
base_model: lab/tales
tags: [讲故事]
---
# 讲故事的小模型

用社区收集的故事微调而成，回答问题并续写故事。
"""
GATED_CARD = """---
license: mit
---
# Gated

Ask for it.
"""
DATASET_CARD = """---
license: cc0-1.0
language: en
task_categories: [text-generation]
---
# Stories

Old stories.
"""
CURVE = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 20"><path d="M0 0L40 18" stroke="#17664a"/></svg>'
RESULTS = """- dataset: {id: lab/stories, task_id: bits-per-byte}
  value: %s
  notes: 95 %% interval %s to %s
"""
BENCHMARK = "tasks:\n  - id: bits-per-byte\n    higher_is_better: false\n"


@dataclass
class FilledHub:
    """The hub, its people's clients, and where the links lead that wait in mail."""

    hub: HubProcess
    apis: dict[str, HfApi]
    links: tuple[str, ...] = ()

    def post(self, who: str, path: str, **body: Any) -> Any:
        """Send JSON to the API in the name of `who`."""
        headers = {"Authorization": f"Bearer {self.apis[who].token}"}
        answer = httpx.post(f"{self.hub.endpoint}/api/{path}", json=body, headers=headers)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def commit(self, who: str, name: str, files: dict[str, bytes | str], message: str, **more: Any) -> None:
        contents = {path: text.encode() if isinstance(text, str) else text for path, text in files.items()}
        operations = [CommitOperationAdd(path, content) for path, content in contents.items()]
        self.apis[who].create_commit(name, operations, commit_message=message, **more)


def fill(hub: HubProcess) -> FilledHub:
    """Put one of everything into a new hub."""
    tokens = {
        name: hub.add_user(
            *(name, "--fullname", name.title(), "--email", f"{name}@example.org"),
            *(["--admin"] if name == "ada" else []),
        )
        for name in PEOPLE
    }
    for name in PEOPLE:
        hub.command("user", "password", name, typed=f"{PASSWORD}\n")
    hub.add_organisation("lab", "--fullname", "The Laboratory", "--member", "ada:admin", "--member", "ben:write")
    filled = FilledHub(hub, {name: HfApi(hub.endpoint, token=token) for name, token in tokens.items()})
    ada, ben, zoe = (filled.apis[name] for name in PEOPLE)
    _models(filled)
    _datasets(filled)
    _discussions(filled)
    _care(filled)
    _mail(filled)
    for api in (ada, ben, zoe):
        filled.post(_name(api), "models/lab/tales/like")
    filled.post("zoe", "users/ada/follow")
    filled.post("zoe", "organizations/lab/follow")
    filled.post("ada", "settings/webhooks", url="https://example.org/told", watched=[{"type": "org", "name": "lab"}])
    _told(filled)
    return filled


def _name(api: HfApi) -> str:
    return str(api.whoami()["name"])


def _models(filled: FilledHub) -> None:
    ada, ben = filled.apis["ada"], filled.apis["ben"]
    for name in ("lab/tales", "ada/empty", "ada/broken"):
        ada.create_repo(name)
    ada.create_repo("ada/hidden", private=True)
    ada.create_repo("lab/gated")
    ada.update_repo_settings("lab/gated", gated="manual")
    filled.commit("ada", "lab/gated", {"README.md": GATED_CARD, "config.json": "{}"}, "Add a card")
    config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_layer": 2, "vocab_size": 100}
    files: dict[str, bytes | str] = {
        "config.json": json.dumps(config),
        "model.safetensors": safetensors(**{"transformer.wte.weight": [100, 8], "transformer.h.0.bias": [8]}),
        "metrics.jsonl": _metrics(5.0),
        "src/train.py": '"""How it was made."""\n\nimport this\n',
    }
    filled.commit("ada", "lab/tales", files, "Add the weights")
    card = {
        "README.md": CARD,
        "curve.svg": CURVE,
        "docs/notes.md": "# Notes\n\nBack to the [card](../README.md#tales).\n",
        "docs/old.txt": "Long ago.\n",
        "文件/a b&c#1.txt": "内容\n",
        ".eval_results/stories.yaml": RESULTS % (1.934, 1.921, 1.948),
        "recipe.yaml": "seed: 1\npretraining: {learning_rate: 0.001, steps: 39}\n",
    }
    filled.commit("ada", "lab/tales", card, "Publish the card")
    ada.create_tag("lab/tales", tag="v1.0")
    ada.create_branch("lab/tales", branch="try/wider")
    ada.create_commit(
        "lab/tales",
        [
            CommitOperationAdd("src/train.py", b'"""How it is made."""\n\nimport this\n'),
            CommitOperationAdd("model.safetensors", safetensors(**{"transformer.wte.weight": [100, 9]})),
            CommitOperationDelete("docs/old.txt"),
        ],
        commit_message="Say it <better>",
        commit_description="At last.",
    )
    ben.create_repo("ben/gushi")
    chinese = {
        "README.md": CHINESE_CARD,
        "config.json": json.dumps(config | {"n_layer": 4}),
        "model.safetensors": safetensors(**{"transformer.wte.weight": [120, 8]}),
        "metrics.jsonl": _metrics(4.0),
        ".eval_results/stories.yaml": RESULTS % (1.94, 1.93, 1.95),
        "recipe.yaml": "seed: 2\npretraining: {learning_rate: 0.002, steps: 39}\n",
    }
    filled.commit("ben", "ben/gushi", chinese, "发布模型")
    filled.commit("ada", "ada/broken", {"model.safetensors": b"\x00" * 20}, "Not what it says")


def _metrics(loss: float) -> str:
    rows = [
        {"step": step, "tokens": 512 * step, "train/loss": loss / step, "validation/loss": (loss + 1) / step}
        for step in range(1, 40)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


def _datasets(filled: FilledHub) -> None:
    filled.apis["ada"].create_repo("lab/stories", repo_type="dataset")
    rows = [{"id": number, "text": f"story {number}", "length": number % 7} for number in range(60)]
    table = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), table)
    files: dict[str, bytes | str] = {
        "README.md": DATASET_CARD,
        "train.jsonl": "".join(json.dumps(row) + "\n" for row in rows),
        "test.parquet": table.getvalue(),
        "counts.csv": "word,count\nbee,3\nwasp,4\n",
        "eval.yaml": BENCHMARK,
    }
    filled.commit("ada", "lab/stories", files, "Add stories", repo_type="dataset")
    filled.apis["ada"].create_repo("ada/damaged", repo_type="dataset")
    filled.commit("ada", "ada/damaged", {"train.parquet": b"PAR1"}, "Not what it says", repo_type="dataset")


def _discussions(filled: FilledHub) -> None:
    ada, ben, zoe = (filled.apis[name] for name in PEOPLE)
    asked = zoe.create_discussion("lab/tales", "Which tales does it know?", description="I **wonder**, @ada.")
    ada.comment_discussion("lab/tales", asked.num, "All of `lab/stories`.")
    zoe.comment_discussion("lab/tales", asked.num, "And Chinese ones?\n\n```python\nprint(1)\n```")
    closed = ben.create_discussion("lab/tales", "Licence?", description="Which one?")
    ada.change_discussion_status("lab/tales", closed.num, "closed", comment="Apache.")
    filled.commit("zoe", "lab/tales", {"NEWS.md": "# News\n"}, "Add news", create_pr=True)
    conflict = {"README.md": CARD.replace("# Tales", "# Stories")}
    filled.commit("zoe", "lab/tales", conflict, "Call it stories", create_pr=True, parent_commit=None)
    ada.create_pull_request("lab/tales", "A draft", description="Not ready.")
    filled.commit("ada", "lab/tales", {"README.md": CARD.replace("# Tales", "# Fables")}, "Call it fables")
    filled.commit("ben", "lab/tales", {"THANKS.md": "# Thanks\n"}, "Add thanks", create_pr=True)
    merged = max(found.num for found in ada.get_repo_discussions("lab/tales"))
    ada.merge_pull_request("lab/tales", merged)
    ben.create_discussion("lab/stories", "从哪里来？", description="这些故事从哪里来？", repo_type="dataset")
    details = zoe.get_discussion_details("lab/tales", asked.num)
    zoe.edit_discussion_comment("lab/tales", asked.num, details.events[-1].id, "And *Chinese* ones, @ben?")
    zoe.comment_discussion("lab/tales", asked.num, "Never mind.")


def _care(filled: FilledHub) -> None:
    """What people do in pages alone: reviews, reactions, reports, requests for access."""
    with filled.hub.rooms() as rooms:
        ada, ben, zoe = (rooms.tokens.actor(str(filled.apis[name].token)) for name in PEOPLE)
        rooms.keys.add("ada", "laptop", generate_private_key("ssh-ed25519").export_public_key().decode())
        find = partial(rooms.repositories.find, ada, RepositoryType.MODEL)
        tales, gated, broken = find("lab/tales"), find("lab/gated"), find("ada/broken")
        rooms.reviews.review(ben, tales, NEWS, "request-changes", "Say **when**.")
        rooms.reviews.ask(zoe, tales, NEWS, "ada")
        rooms.line_comments.comment(ben, tales, NEWS, "NEWS.md", "new", 1, "Which news?")
        rooms.reactions.set(
            ben, tales, 1, rooms.discussions.events(rooms.discussions.find(tales, 1))[0].id, "+1", given=True
        )
        rooms.runs.begin(ada, tales, "wider", Description("Wider", "pretraining", "tales@12ab34cd", "a small machine"))
        how_far = Progress(step=39, steps=1000, tokens=19968, seconds_left=4000)
        rooms.runs.report(ada, tales, "wider", how_far, [json.loads(line) for line in _metrics(5.0).splitlines()])
        rooms.access.ask(zoe, gated, {"why": "To read."})
        rooms.reports.report(zoe, broken, "It is **broken**, and pretends not to be.")
        case = rooms.reports.report(zoe, tales, "Says nothing true.", number=2)
        rooms.moderation.decide(ada, case.id, hide=False, note="It is a question.")
        spam = rooms.commits.create_repository(zoe, RepositoryType.MODEL, "zoe", "spam")
        case = rooms.reports.report(ben, spam, "It sells watches.")
        rooms.moderation.decide(ada, case.id, hide=True, note="It does.")


def _mail(filled: FilledHub) -> None:
    """What waits for an answer to a mail: an invitation to an organisation, a new address, a forgotten password."""
    rooms = open_rooms(filled.hub.data, smtp="smtp://127.0.0.1:9", mail_from="hub@example.org")
    ada, zoe = (rooms.tokens.actor(str(filled.apis[name].token)) for name in ("ada", "zoe"))
    rooms.organisation_invitations.invite(ada, "lab", "zoe", Role.READ)
    rooms.mail_links.change_email(zoe, "zoe@example.net")
    rooms.mail_links.forgotten("zoe")
    with rooms.database.read() as session:
        links = session.scalars(select(MailLink).order_by(MailLink.purpose)).all()
    rooms.close()
    pages = ("/settings/email/confirm", "/login/new-password")
    filled.links = tuple(
        f"{page}?code={rooms.mail_links.code_of(link)}" for page, link in zip(pages, links, strict=True)
    )


def _told(filled: FilledHub) -> None:
    """What the webhook was told of, as the log has it: nobody is spoken to."""
    with filled.hub.rooms() as rooms, rooms.database.write() as session:
        moves = select(Event.id).where(Event.kind == "branch.moved", Event.name_key == "lab/tales").order_by(Event.id)
        webhook, event = session.scalars(select(Webhook.id)).one(), session.scalars(moves).first()
        session.add(WebhookDelivery(webhook_id=webhook, event_id=event, attempts=1, status=200))
