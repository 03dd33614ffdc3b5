"""Source code as HTML: Pygments' short class names, coloured by the style sheet in light and dark."""

from functools import lru_cache

from markupsafe import Markup, escape
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexer import Lexer
from pygments.lexers import TextLexer, get_lexer_by_name, get_lexer_for_filename
from pygments.token import STANDARD_TYPES
from pygments.util import ClassNotFound

# Signs that turn the order of a line, so that it reads as something else: https://trojansource.codes
TURNS = {code: f"<U+{code:04X}>" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}
CLASSES = frozenset(filter(None, STANDARD_TYPES.values()))
MAX_HIGHLIGHTED = 100_000  # characters; colours for more would cost over half a second of processor time
_FORMATTER = HtmlFormatter(nowrap=True)


def visible(text: str) -> str:
    """The text with names in the place of signs that would show it in another order than programs read it."""
    return text.translate(TURNS)


def block(text: str, language: str) -> Markup:
    """A fenced code block's inside; an unknown `language` stays plain."""
    try:
        lexer = get_lexer_by_name(language, stripnl=False)
    except ClassNotFound:
        return escape(visible(text))
    return _coloured(visible(text), lexer)


@lru_cache(maxsize=16)
def lines(text: str, filename: str) -> list[Markup]:
    """A file's lines, each with balanced tags, without line ends; the language is guessed from `filename`."""
    text = visible(text.removesuffix("\n") + "\n")
    try:
        lexer = get_lexer_for_filename(filename, stripnl=False)
    except ClassNotFound:
        lexer = TextLexer(stripnl=False)
    return [Markup(line) for line in _coloured(text, lexer).split("\n")[:-1]]  # noqa: S704 - escaped


def _coloured(text: str, lexer: Lexer) -> Markup:
    if len(text) > MAX_HIGHLIGHTED or isinstance(lexer, TextLexer):
        return escape(text)
    return Markup(highlight(text, lexer, _FORMATTER))  # noqa: S704 - the formatter escapes
