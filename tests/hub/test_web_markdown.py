"""Cards: what Markdown becomes, and what a hostile card cannot do."""

from urllib.parse import urlsplit

import nh3
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from web_page import Page

from lmcommons.hub.web import markdown, math
from lmcommons.hub.web.markdown import Place

PLACE = Place("/ada/m/blob/main", "/ada/m/resolve/main")
DOCS = Place("/ada/m/blob/main", "/ada/m/resolve/main", "docs")

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)><script>alert(1)</script></svg>",
    '<a href="javascript:alert(1)">x</a>',
    '<a href="java&#10;script:alert(1)">x</a>',
    '<a href="da&#9;ta:text/html,<script>alert(1)</script>">x</a>',
    "[x](javascript:alert(1))",
    "[x](vbscript:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "![x](data:text/html;base64,PHNjcmlwdD4=)",
    "![x](data:image/svg+xml;base64,PHN2Zz4=)",
    "![x](https://tracker.example/pixel.png)",
    "![x](//tracker.example/pixel.png)",
    "<img src='https://tracker.example/x' srcset='https://tracker.example/y 2x'>",
    "<iframe src='https://tracker.example'></iframe>",
    "<form action='/api/repos/delete'><input name=x><button>Click</button></form>",
    "<input type=password name=token>",
    "<style>body{display:none}</style>",
    "<p style='position:fixed;inset:0'>over the page</p>",
    "<div class='bar wide'>like the hub's own bar</div>",
    "<base href='https://tracker.example/'>",
    "<meta http-equiv=refresh content='0;url=https://tracker.example'>",
    "<link rel=stylesheet href='https://tracker.example/x.css'>",
    "<object data=x></object><embed src=x>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<a id=content name=content>the page's own anchor</a>",
    "<details ontoggle=alert(1) open>x</details>",
    "```html\n</code></pre><script>alert(1)</script>\n```",
    "[x]: javascript:alert(1)\n\n[x]",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<img src='//[tracker.example/x'>",
    "<a href='http://[::1'>x</a><img src='//tracker.example\u2100/x'>",
    "<video src='https://tracker.example/v' autoplay></video>",
    r"$\href{javascript:alert(1)}{x}$ $\class{bar}{x}$ $\style{position:fixed}{x}$",
    r"$\text{</math><script>alert(1)</script>}$ $\text{<img src=x onerror=alert(1)>}$",
    "<math><mi xlink:href='javascript:alert(1)' href='javascript:alert(1)' style='position:fixed' onclick=alert(1)>x",
    "<math><annotation-xml encoding='text/html'><script>alert(1)</script></annotation-xml></math>",
    "<math><maction actiontype='statusline#http://x.example'>x</maction><mglyph src='//tracker.example/x'></math>",
    "<table background='https://tracker.example/x'><tr><td>1</table>",
]


NAMES = {tag: markdown.ATTRIBUTES.get(tag, set()) for tag in markdown.TAGS}


def assert_harmless(html: str) -> None:
    """Nothing that runs, loads from elsewhere, sends, or dresses up as the hub's own page; and all browsers agree."""
    kept = {tag: names | {"class", "id", "aria-label", "aria-hidden", "tabindex"} for tag, names in NAMES.items()}
    again = nh3.clean(html, tags=markdown.TAGS, attributes=kept, url_schemes={"http", "https", "mailto", "data"})
    # What a browser's parser makes of it is what it says.
    assert [element.tag for element in Page(again).elements] == [element.tag for element in Page(html).elements]
    for element in Page(html).elements:
        assert element.tag in markdown.TAGS
        for name, value in element.attributes.items():
            assert not name.startswith("on")
            assert name not in ("style", "srcset", "action", "formaction", "background", "name")
            if name == "href":
                assert urlsplit(value).scheme in ("", "http", "https", "mailto")
            if name == "src":
                assert value.startswith(("/", "data:image/"))
                assert not value.startswith(("//", "data:image/svg"))
            if name == "id":
                assert value.startswith(markdown.ID_PREFIX)
            if name == "class":
                assert set(value.split()) <= markdown.CLASSES.get(element.tag, {"anchor"})
        if element.tag == "input":
            assert element.attributes["type"] == "checkbox"
            assert "disabled" in element.attributes


@pytest.mark.parametrize("attempt", HOSTILE)
def test_a_hostile_card_is_harmless(attempt: str) -> None:
    assert_harmless(markdown.render(attempt, PLACE))


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.one_of(st.sampled_from(HOSTILE), st.text(max_size=30), st.sampled_from("<>\"'`[]()!&#\n|- ")), max_size=12
    )
)
@example(["<", "<script>alert(1)</script>", ">"])
def test_no_combination_of_fragments_makes_a_card_harmful(fragments: list[str]) -> None:
    assert_harmless(markdown.render("".join(fragments), PLACE))


def test_tables_code_task_lists_footnotes_and_alerts_are_rendered() -> None:
    text = """
| a | b |
|:--|--:|
| 1 | 2 |

```python
print("hello")
```

- [x] done
- [ ] open

Said so[^1]. ~~Not~~ https://example.org

[^1]: By somebody.

> [!WARNING]
> Careful.
"""
    page = Page(markdown.render(text, PLACE))
    assert not page.problems
    assert [cell.text for cell in page.all("td")] == ["1", "2"]
    assert [cell.attributes["class"] for cell in page.all("td")] == ["left", "right"]
    assert "scroll" in page.attributes("class")
    assert '<span class="nb">print</span>' in page.html
    assert ["checked" in box.attributes for box in page.all("input")] == [True, False]
    assert "#card-fn1" in page.attributes("href")
    assert "card-fn1" in page.attributes("id")
    assert page.all("s")[0].text == "Not"
    assert "https://example.org" in page.attributes("href")
    assert "markdown-alert markdown-alert-warning" in page.attributes("class")


def test_code_in_an_unknown_language_is_shown_as_it_is() -> None:
    assert "&lt;tag&gt; &amp; text\n" in markdown.render("```nonsense\n<tag> & text\n```", PLACE)


def test_headings_stand_below_the_pages_own_and_can_be_linked_to() -> None:
    page = Page(markdown.render("# How to use it\n\n[up](#how-to-use-it)\n\n## 用法\n\n## 用法\n", PLACE))
    assert [element.tag for element in page.elements if element.tag[0] == "h"] == ["h2", "h3", "h3"]
    assert page.all("a")[1].attributes["href"] == "#card-how-to-use-it"
    assert page.attributes("id") == ["card-how-to-use-it", "card-用法", "card-用法-1"]


def test_a_heading_leads_to_itself_outside_the_order_of_focus() -> None:
    for link in Page(markdown.render("## Use\n\n## 用法\n", PLACE)).all("a"):
        assert (link.attributes["aria-hidden"], link.attributes["tabindex"]) == ("true", "-1")
        assert link.attributes["href"] in ("#card-use", "#card-%E7%94%A8%E6%B3%95", "#card-用法")
    (link,) = Page(markdown.render('<h2 align="center" id="x&quot;y">A</h2>', PLACE)).all("a")
    assert link.attributes["href"] == '#card-x"y'
    assert not Page(markdown.render('<a tabindex="5" aria-hidden="true" href="/x">x</a>', PLACE)).attributes("tabindex")


def test_raw_html_is_aligned_and_has_no_heading_of_the_pages_level() -> None:
    text = """<p align="center"><img src="a.png" width="20" align=right></p>

<h1 align='Center'>Title</h1>

Words <div ALIGN="left">inside</div> <h6>6</h6>

<table><tr><td align="right" class="x">1</td></tr></table>

`<p align="center">`
"""
    page = Page(markdown.render(text, PLACE))
    assert not page.attributes("align")
    assert [
        (element.tag, element.attributes["class"]) for element in page.elements if "class" in element.attributes
    ] == [
        *(("p", "center"), ("img", "right"), ("h2", "center"), ("div", "left"), ("td", "right")),
    ]
    assert [element.tag for element in page.elements if element.tag[0] == "h"] == ["h2", "h6"]
    assert page.all("code")[0].text == '<p align="center">'


@pytest.mark.parametrize(
    ("place", "target", "address"),
    [
        (PLACE, "recipe.yaml", "/ada/m/blob/main/recipe.yaml"),
        (PLACE, "./docs/a.md#use", "/ada/m/blob/main/docs/a.md#card-use"),
        (PLACE, "src/a.py#L3", "/ada/m/blob/main/src/a.py#L3"),
        (PLACE, "../../../secret", "/ada/m/blob/main/secret"),
        (DOCS, "../README.md", "/ada/m/blob/main/README.md"),
        (DOCS, "b.md", "/ada/m/blob/main/docs/b.md"),
        (DOCS, "/datasets/ada/tales", "/datasets/ada/tales"),
        (DOCS, "https://example.org/a?b#c", "https://example.org/a?b#c"),
        (DOCS, "mailto:ada@example.org", "mailto:ada@example.org"),
    ],
)
def test_links_lead_to_files_of_the_repository(place: Place, target: str, address: str) -> None:
    assert Page(markdown.render(f"[x]({target})", place)).attributes("href") == [address]


def test_images_of_the_repository_are_shown_and_others_only_named() -> None:
    page = Page(markdown.render("![Curve](plots/c.svg) ![Pixel](https://tracker.example/p.png)", DOCS))
    (own,) = page.all("img")
    assert own.attributes == {"src": "/ada/m/resolve/main/docs/plots/c.svg", "alt": "Curve"}
    assert [(named.attributes["class"], named.text) for named in page.all("span")] == [("elsewhere", "Pixel")]
    words = "<b onclick=x>&amp;</b>"
    hostile = Page(markdown.render(f"![{words.replace('&', '&amp;')}](https://x.example/p.png)", PLACE))
    assert [(named.text, named.attributes["class"]) for named in hostile.all("span")] == [(words, "elsewhere")]
    assert not hostile.all("b")


@pytest.mark.parametrize(
    ("target", "address"),
    [
        ("https://hub.example.org/ada/m/resolve/main/a.png", "/ada/m/resolve/main/a.png"),
        ("https://hub.example.org//tracker.example/p.png", None),
        ("https://hub.example.org.tracker.example/p.png", None),
        ("https://hub.example.org@tracker.example/p.png", None),
        ("http://hub.example.org/ada/m/resolve/main/a.png", None),
        ("../a b.png", "/ada/m/resolve/main/a%20b.png"),
        ("./plots/c.png?raw=true", "/ada/m/resolve/main/docs/plots/c.png?raw=true"),
    ],
)
def test_images_by_the_hubs_own_address_are_shown(target: str, address: str | None) -> None:
    place = Place(DOCS.blob, DOCS.resolve, DOCS.folder, "https://hub.example.org")
    for text in (f"![x](<{target}>)", f'<img alt="x" src="{target}">'):
        page = Page(markdown.render(text, place))
        assert [source.replace(" ", "%20") for source in page.attributes("src")] == ([address] if address else [])
        assert [named.text for named in page.all("span")] == ([] if address else ["x"])


def test_small_embedded_images_are_shown() -> None:
    assert Page(markdown.render("![x](data:image/png;base64,iVBORw0KGgo=)", PLACE)).attributes("src") == [
        "data:image/png;base64,iVBORw0KGgo="
    ]


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "pattern",
    [
        *("[", "![", "> ", "**a ", ":<", "# a\n", "- a\n  ", "|a|\n|-|\n", "[^a]", "<div>", "http://a "),
        *("$", "$a", "$$", "$a$ ", "$$\n", "\\(", "\\[a", r"\(\frac{a}{b}\) ", r"$\sqrt{"),
    ],
)
def test_repeated_markers_stay_harmless(pattern: str) -> None:
    paragraph = pattern * (markdown.MAX_PARAGRAPH // len(pattern) - 1)
    assert_harmless(markdown.render(f"{paragraph}\n\n" * 5, PLACE))


AUTOCOMPLETED = 65_536  # cells that rows lack and the parser adds, in all


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "line",
    [
        *("- a\n", "- a\n\n\n", "> - a\n>   - b\n", "- [ ] a\n", "1. a\n", "> a\n\n", "> [!NOTE]\n> a\n\n"),
        *("# a\n", "a\n=\n", "---\n", "| 1 | *b* | [x](y) |\n", "|a|\n|-|\n|b|\n\n", "|" + "a|" * 2_000 + "\n"),
        *("*a " * 1_600 + "\n\n", "[" * 4_900 + "\n\n", "![" * 2_000 + "\n\n", "[a](b) " * 600 + "\n\n"),
        *("`a` " * 1_200 + "\n\n", "&" * 4_900 + "\n\n", "[^a] " * 900 + "\n\n[^a]: b\n\n", "www.a.b " * 9 + "\n\n"),
        *("http://a.b " * 400 + "\n\n", "<!-- a -->\n\n", "a <b> <!-- " * 400 + "\n\n", "```python\nx = 1\n```\n"),
    ],
)
def test_work_for_five_megabytes_is_bounded_by_the_marks_that_are_read(
    monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setattr(markdown, "MAX_MARKS", 20_000)
    head = "|" + "a|" * 2_000 + "\n|" + "-|" * 2_000 + "\n" if line.startswith("|a|a|") else ""
    text = markdown.beginning(head + line * (5_000_000 // len(line)))
    assert len(markdown.MARK.findall(text)) <= markdown.MAX_MARKS
    tokens = markdown.parser().parse(text)
    assert sum(1 + len(token.children or ()) for token in tokens) <= 10 * markdown.MAX_MARKS + 4 * AUTOCOMPLETED


def test_rows_without_cells_get_a_bounded_number_of_them() -> None:
    text = "|" + "a|" * 3_000 + "\n|" + "-|" * 3_000 + "\n" + "|\n" * 100_000
    cells = [token for token in markdown.parser().parse(markdown.beginning(text)) if token.type == "td_open"]
    assert len(cells) <= AUTOCOMPLETED + 3_000


@pytest.mark.parametrize("tags", ["<div>", "<div>\n", "<b><div>", "<details><ul><li>", "a <b>\n\n"])
def test_of_a_text_with_more_tags_than_are_read_the_beginning_is_shown(tags: str) -> None:
    text = tags * 50_000
    shown = markdown.beginning(text)
    assert shown.count("<") == markdown.MAX_TAGS
    assert text.startswith(shown)
    assert_harmless(markdown.render("<div>" * 100, PLACE))


def test_formulas_are_drawn_up_to_a_number_and_a_length() -> None:
    assert markdown.render("$a$ " * 1_000 + ("\n\n" + "$a$ " * 1_000) * 4, PLACE).count("<math") == math.MAX_FORMULAS
    long = "$" + "x+" * 990 + "y$\n\n"
    assert markdown.render(long * 200, PLACE).count("<math") == math.MAX_IN_ALL // (len(long) - 4)


def test_a_table_of_ten_thousand_rows_is_shown_whole() -> None:
    rows = "".join(f"| {number} | word {number} | {number / 7:.3f} |\n" for number in range(10_000))
    text = f"| n | word | value |\n|--:|:--|--:|\n{rows}"
    assert markdown.beginning(text) == text
    assert markdown.render(text, PLACE).count("<tr>") == 10_001


@pytest.mark.parametrize("line", ["Some *words* and a [link](x.md).\n\n", "| 1 | 2 |\n", "x" * 80 + "\n", "x" * 80])
def test_of_a_card_of_five_megabytes_the_beginning_is_shown(line: str) -> None:
    text = line * (5_000_000 // len(line))
    shown = markdown.beginning(text)
    assert text.startswith(shown)
    assert len(shown) <= markdown.MAX_MARKDOWN
    marks = len(markdown.MARK.findall(shown))
    assert len(shown) > markdown.MAX_MARKDOWN - len(line) or marks > markdown.MAX_MARKS - len(line)


def test_what_was_rendered_is_kept_within_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "# Long\n\n" + "Some *words* and a [link](x.md).\n\n" * 5_000
    first = markdown.render(text, PLACE)
    assert markdown.render(text, PLACE) is first
    assert "/ada/m/blob/main/docs/x.md" in markdown.render(text, DOCS)
    monkeypatch.setattr(markdown, "CACHE_LIMIT", len(first) + 100)
    markdown.render(f"{text}!", PLACE)
    assert markdown.render(text, PLACE) is not first


@pytest.mark.parametrize(
    ("text", "words", "display"),
    [
        (r"So $x_i^2$ is.", "xi2", "inline"),
        (r"So \(x_i^2\) is.", "xi2", "inline"),
        (r"So $$a < b$$ is.", "a<b", "block"),
        ("$$\n\\frac{a}{b}\n$$", "ab", "block"),
        ("\\[\na < b\n\\]", "a<b", "block"),
        ("So $`x_i^2`$ is.", "xi2", "inline"),
        ("```math\n\\frac{a}{b}\n```", "ab", "block"),
        (r"| a |\n|--|\n| $\alpha$ |".replace(r"\n", "\n"), "α", "inline"),
        (r"**$\text{if } a<b$**", "if a<b", "inline"),
        (r"$$\arg\max_{y} f + \operatorname*{arg\,min}_\theta$$", "argmaxyf+argminθ", "block"),
        (r"$$\big\{ \text{5\% of a\_b} \big\}$$", "{5% of a_b}", "block"),
        (r"$$\label{eq:one} a = b \notag$$", "a=b", "block"),
    ],
)
def test_formulas_are_mathml(text: str, words: str, display: str) -> None:
    page = Page(markdown.render(text, PLACE))
    (math,) = page.all("math")
    assert not page.problems
    assert (math.attributes, math.text.replace("\xa0", " ")) == ({"display": display}, words)


@pytest.mark.parametrize(
    "latex",
    [
        r"\begin{aligned} a &= b \\ c &= d \end{aligned}",
        r"\begin{aligned}[t] a &= b \\ c &= d \end{aligned}",
        r"\begin{gathered} a = b \\ c = d \end{gathered}",
        r"\begin{equation*} a = b \\ c = d \end{equation*}",
        r"a &= b \\ c &= d",
        r"a = b \\ c = d",
    ],
)
def test_lines_of_a_formula_stand_below_each_other(latex: str) -> None:
    page = Page(markdown.render(f"$$\n{latex}\n$$", PLACE))
    assert [row.text.replace(" ", "") for row in page.all("mtr")] == ["a=b", "c=d"]
    assert "&" not in page.all("math")[0].text


def test_a_matrix_is_what_its_exponent_belongs_to() -> None:
    page = Page(markdown.render(r"$\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}^{-1}$", PLACE))
    assert page.all("msup")[0].text == "(1234)−1"


def test_in_a_displayed_formula_limits_stand_below_the_word_that_has_them() -> None:
    latex = r"\max_{x} \log_2 x + \sum_i x_i"
    displayed, inline = (Page(markdown.render(f"{sign}{latex}{sign}", PLACE)) for sign in ("$$", "$"))
    assert [element.text for element in displayed.all("munder")] == ["maxx", "∑i"]
    assert (inline.all("munder"), len(inline.all("msub"))) == ([], 4)
    operator = Page(markdown.render(r"$$\mathop{\mathrm{argmin}}\limits_{x} a \mathbin{+} b$$", PLACE))
    assert [element.text for element in operator.all("munder")] == ["argminx"]
    assert [element.text for element in operator.all("mo")] == ["+"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("It costs $5 or $10.", "It costs $5 or $10."),
        (r"\$a\$", "$a$"),
        ("`$a$`", "$a$"),
        ("one $ sign", "one $ sign"),
        (r"broken $x_{$ here", "broken $x_{$ here"),
        ("$$\n\\frac{\n$$", "$$\\frac{$$"),
        (r"broken \(x_{\) here", r"broken \(x_{\) here"),
        ("$" + "x+" * 2_000 + "y$", "$" + "x+" * 2_000 + "y$"),
        ("$" + r"\sqrt{" * 330 + "$", "$" + r"\sqrt{" * 330 + "$"),
        # Each of these would become longer without end.
        (r"$\newcommand{\q}[1]{\q{#1#1}}\q{x}$", r"$\newcommand{\q}[1]{\q{#1#1}}\q{x}$"),
        (r"$\newco\label{}mmand{\q}[1]{\q{#1#1}}\q{x}$", r"$\newco\label{}mmand{\q}[1]{\q{#1#1}}\q{x}$"),
        (r"$\def\q#1{\q{#1#1}}\q{x}$", r"$\def\q#1{\q{#1#1}}\q{x}$"),
        (r"$\newenvironment{q}{\q\q}{}\begin{q}\end{q}$", r"$\newenvironment{q}{\q\q}{}\begin{q}\end{q}$"),
    ],
)
def test_what_is_no_formula_stays_as_it_is_written(text: str, shown: str) -> None:
    page = Page(markdown.render(text, PLACE))
    assert not page.all("math")
    assert "".join(page.words).strip() == shown


@settings(deadline=None, max_examples=150)
@given(
    st.text(alphabet=r"\{}^_&$abc123<>\"'/ \n", max_size=60),
    st.sampled_from([r"\frac", r"\text", r"\begin{pmatrix}", r"\sqrt", r"\left("]),
)
def test_no_formula_is_harmful_or_an_error(latex: str, command: str) -> None:
    assert_harmless(markdown.render(f"a ${command}{latex}$ b \\({latex}\\)\n\n$$\n{command}{latex}\n$$", PLACE))


def test_an_endless_paragraph_is_shown_as_plain_text() -> None:
    page = Page(markdown.render("**a** " * markdown.MAX_PARAGRAPH + "\n\n**b**", PLACE))
    assert [element.text for element in page.all("strong")] == ["b"]
    assert "**a** **a**" in page.html


def test_bare_addresses_are_links_without_the_full_stop_after_them() -> None:
    page = Page(
        markdown.render("See https://example.org/a_b?c=1, or (http://example.com/).\n[https://x.example](/y)", PLACE)
    )
    assert page.attributes("href") == ["https://example.org/a_b?c=1", "http://example.com/", "/y"]


def test_bare_addresses_in_chinese_text_end_where_the_text_goes_on() -> None:
    page = Page(markdown.render("见https://example.org/a，谢谢。http://example.com。", PLACE))
    assert page.attributes("href") == ["https://example.org/a", "http://example.com"]


def test_addresses_without_a_scheme_and_of_mail_are_links() -> None:
    text = "See www.example.org/a. Ask ada@example.org, or 见 www.example.com。 Not awww.example.org, @ada, a@b, www.。"
    assert Page(markdown.render(text, PLACE)).attributes("href") == [
        *("http://www.example.org/a", "mailto:ada@example.org", "http://www.example.com"),
    ]
