r"""Formulas in Markdown as MathML, which browsers draw by themselves: `$…$`, `\(…\)`, `$$…$$`, `\[…\]`, and "$`…`$".

What cannot be read is shown as its source.
"""

import re
from collections.abc import Sequence
from html import escape, unescape
from typing import Any
from xml.etree import ElementTree

from latex2mathml.converter import convert_to_element
from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin

MAX_FORMULA = 2_000  # characters
MAX_FORMULAS, MAX_IN_ALL = 2_000, 100_000  # of a text, and their characters
BRACKETS = {r"\(": r"\)", r"\[": r"\]", "$`": "`$"}
DISPLAYED = ("$$", r"\[")

# What the library takes for something else, and what it takes for the same.
_REWRITTEN = (
    (r"\\(begin|end)\{(?:aligned|gathered|equation\*?|multline\*?)\}(?:\[[bct]\])?", r"\\\1{align*}"),
    (r"(\\begin\{[BVbpv]matrix\})", r"{\1"),  # one thing, which may have an exponent
    (r"(\\end\{[BVbpv]matrix\})", r"\1}"),
    (r"\\operatorname\*?\s*\{\s*([A-Za-z]+)(?:\\[ ,:;]|~)+([A-Za-z]+)\s*\}", r"\\mathrm{\1\\,\2}"),
    (r"\\arg(?![A-Za-z])", r"\\mathrm{arg}"),
    (r"\\label\s*\{[^{}]*\}|\\(?:nonumber|notag)(?![A-Za-z])", ""),
)
REWRITTEN = [(re.compile(pattern), replacement) for pattern, replacement in _REWRITTEN]
# What a formula defines may stand for more and more of itself, without end.
DEFINITION = re.compile(r"\\(?:def|newcommand|newenvironment)(?![A-Za-z])")
BELOW = {"msub": "munder", "msubsup": "munderover"}
ESCAPED = re.compile(r"\\([#$%&_{}])")

# Presentation elements of MathML Core (https://www.w3.org/TR/mathml-core/), of which none links, loads or runs.
_SCRIPTS, _TABLES = ("mover", "munder", "munderover"), ("mtable", "mtr", "mtd")
_PLAIN = ("mn", "mphantom", "mroot", "mrow", "ms", "msqrt", "msub", "msubsup", "msup", "mtext")
_LAYOUT = {"columnalign", "columnlines", "columnspacing", "displaystyle", "rowlines", "rowspacing"}
ATTRIBUTES: dict[str, set[str]] = {
    **{tag: set() for tag in _PLAIN},
    **{tag: {"accent", "accentunder"} for tag in _SCRIPTS},
    **dict.fromkeys(_TABLES, _LAYOUT),
    "math": {"display"},
    "mfrac": {"linethickness"},
    "mi": {"mathvariant"},
    "mo": {"fence", "form", "lspace", "maxsize", "minsize", "movablelimits", "rspace", "separator", "stretchy"},
    "mspace": {"width"},
    "mstyle": {"displaystyle", "mathvariant", "scriptlevel"},
}


def math_plugin(parser: MarkdownIt) -> None:
    """Let a parser read formulas. Prices, as in "$5 or $10", are none: GitHub and pandoc draw the same line."""
    parser.use(
        dollarmath_plugin,
        allow_labels=False,
        allow_space=False,
        allow_digits=False,
        allow_blank_lines=False,
        double_inline=True,
    )
    parser.inline.ruler.before("math_inline", "math_brackets", _brackets)
    for kind in ("math_inline", "math_inline_double", "math_block"):
        parser.add_render_rule(kind, _render)


def _brackets(state: StateInline, silent: bool) -> bool:
    opening = state.src[state.pos : state.pos + 2]
    if opening not in BRACKETS:
        return False
    stop = state.src.find(BRACKETS[opening], state.pos + 2)
    if stop <= state.pos + 2:  # absent, or nothing between
        return False
    if not silent:
        token = state.push("math_inline", "math", 0)
        token.content, token.markup = state.src[state.pos + 2 : stop], opening
    state.pos = stop + 2
    return True


def _render(renderer: Any, tokens: Sequence[Token], position: int, options: Any, env: Any) -> str:
    token = tokens[position]
    latex, is_displayed = token.content.strip(), token.markup in DISPLAYED or token.type == "math_block"
    env["formulas"], env["latex"] = env.get("formulas", 0) + 1, env.get("latex", 0) + len(latex)
    if len(latex) <= MAX_FORMULA and env["formulas"] <= MAX_FORMULAS and env["latex"] <= MAX_IN_ALL:
        try:
            return _mathml(latex, "block" if is_displayed else "inline")
        except Exception:  # noqa: S110 - the library raises what it stumbles over; the source is shown then
            pass
    source = f"{token.markup}{latex}{BRACKETS.get(token.markup, token.markup)}"
    return f"<pre>{escape(source)}</pre>\n" if token.type == "math_block" else f"<code>{escape(source)}</code>"


def _mathml(latex: str, display: str) -> str:
    for pattern, replacement in REWRITTEN:
        latex = pattern.sub(replacement, latex)
    if DEFINITION.search(latex):  # now, that nothing is taken out of a command any more
        raise ValueError("a formula that defines commands")
    element = convert_to_element(latex, display=display)
    if element.find(".//mspace[@linebreak]") is not None:  # which browsers do not obey
        element = convert_to_element(rf"\begin{{align*}}{latex}\end{{align*}}", display=display)
    for part in element.iter():  # it writes signs as entities, the words of \text as they are, and limits beside lim
        if display == "block" and part.tag in BELOW and part[0].tag == "mo" and (part[0].text or "")[:3].isalpha():
            part.tag = BELOW[part.tag]
        if len(part) and part.tag in ("mi", "mo"):  # which hold text alone
            part.tag = "mrow"
        part.text = ESCAPED.sub(r"\1", unescape(part.text)) if part.text else None
    return ElementTree.tostring(element, encoding="unicode")
