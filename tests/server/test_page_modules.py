"""Modules of the page that need no browser: numbers and tokens, what is kept, what is asked, Markdown."""

import json

import pytest
from javascript import evaluate

from shortlist.cli.sampling import CHAT_SAMPLING
from shortlist.server.app import PAGE


def run(module, expression, given=None):
    return evaluate(PAGE / f"{module}.js", expression, given)


# ---- format -----------------------------------------------------------------------------------------------


def test_numbers_are_written_for_people():
    shares = [0, 0.00001, 0.0001, 0.004, 0.01, 0.0956, 0.5, 0.99, 0.9951, 0.99999, 1]
    assert run("format", "given.map(module.percent)", shares) == [
        *("0 %", "< 0.01 %", "0.01 %", "0.4 %", "1 %", "9.6 %", "50 %", "99 %", "99.51 %", "99.99 %", "100 %")
    ]
    assert run("format", "given.map(module.whole)", [0.5, 999.4, 49152]) == ["1", "999", "49,152"]
    sizes = [96_340_000, 999_999_999, 1e9, 1.37e9]
    assert run("format", "given.map(module.megabytes)", sizes) == [
        "96.3 MB",
        "1000.0 MB",
        "1.00 GB",
        "1.37 GB",
    ]


def test_what_cannot_be_seen_is_made_visible():
    texts = [" a b", "\n\n", "\t", "\r\n", "\u00a0", "\u200b", "\u202e", "\x00", "\x7f", "é漢😀", ""]
    assert run("format", "given.map(module.visible)", texts) == [
        *("␣a␣b", "⏎⏎", "⇥", "␍⏎", "⟨U+00A0⟩", "⟨U+200B⟩", "⟨U+202E⟩", "⟨U+0000⟩", "⟨U+007F⟩", "é漢😀", "")
    ]


def test_a_candidate_has_a_name():
    candidates = [
        {"token": 5, "text": " the", "bytes": list(b" the")},
        {"token": 6, "text": "\ufffd", "bytes": [0xE2, 0x0A]},
        {"token": 7, "text": "", "bytes": []},
    ]
    assert run("format", "given.map(module.nameOf)", candidates) == ["␣the", "bytes e2 0a", "token 7"]


def test_a_token_is_named_by_what_was_chosen():
    chosen = {"token": 2, "text": "<|im_end|>", "chosen": True}
    other = {"token": 3, "text": " x", "chosen": False}
    tokens = [
        {"token": 2, "text": "", "candidates": [other, chosen]},
        {"token": 9, "text": "\n"},
        {"token": 9, "text": ""},
    ]
    assert run("format", "given.map(module.tokenName)", tokens) == ["<|im_end|>", "⏎", "token 9"]


def test_figures_are_means_over_the_tokens():
    tokens = [
        {"rows_read": 10, "rows_share": 0.1, "bytes_read": 100, "rank": 1},
        {"rows_read": 30, "rows_share": 0.3, "bytes_read": 500, "rank": 2},
    ]
    figures = run("format", "module.figuresOf(given)", tokens)
    assert figures == {"count": 2, "rows": 20, "share": pytest.approx(0.2), "bytes": 300, "likeliest": 1}
    assert run("format", "[module.figuresOf([]), module.figuresOf()]") == [None, None]


def test_a_speed_needs_two_tokens():
    given = [{"timed": 10, "seconds": 0.5}, {"timed": 0, "seconds": 0}, {}, {"timed": 3, "seconds": -0.1}]
    assert run("format", "given.map(module.speedOf)", given) == [20, None, None, None]
    assert run("format", "module.speedOf()") is None


def test_what_a_head_does_is_explained():
    layers = {"head": "dense", "recipe": {"sites": {"layers.0.qkv": {}}}}
    dense, exact, shortlisted = run(
        "format", "given.map(module.explain)", [{"head": "dense"}, {"head": "exact", "recipe": None}, layers]
    )
    assert dense["same"]
    assert "fast and full are the same" in dense["text"]
    assert "differs" not in exact
    assert "same" not in exact
    assert "Its text is always that of full" in exact["text"]
    assert not shortlisted["same"]
    assert "layers are shortlisted" in shortlisted["text"]


def test_how_often_an_estimated_head_differed_is_said_as_its_recipe_has_it():
    measured = [
        {"head": {"tokens": 1256, "shortlisted": {"agreement": 1 - 5 / 1256}}},
        {"head": {"tokens": 256, "shortlisted": {"agreement": 1.0}}},
        {
            "head": {"tokens": 256, "shortlisted": {"agreement": 1.0}},
            "whole": {"tokens": 200, "shortlisted": {"agreement": 0.98}},
        },
        {"head": {"tokens": 256}},
        {},
    ]
    given = [{"head": "estimated", "recipe": {"sites": {"head": {}}, "measured": each}} for each in measured]
    found = run("format", "given.map(module.explain)", [*given, {"head": "estimated"}])
    assert all(each["differs"] for each in found)
    assert [each["text"].split("may differ from full: ")[1] for each in found] == [
        "when that was measured, 5 of 1,256 tokens did.",
        "when that was measured, 0 of 256 tokens did.",
        "when that was measured, 4 of 200 tokens did.",
        *["how often was not measured."] * 3,
    ]


def test_full_reads_everything_only_where_the_layers_are_dense():
    given = [
        {"head": "exact", "ffn": "dense", "recipe": None},
        {"ffn": "dense", "recipe": {"sites": {"head": {}, "layers.3.neurons": None}}},
        {"ffn": "exact", "recipe": None},
        {"ffn": "dense", "recipe": {"sites": {"head": {}, "layers.3.o": {}}}},
    ]
    assert run("format", "given.map(module.layersDense)", given) == [True, True, False, False]


# ---- store ------------------------------------------------------------------------------------------------


def answer(text, tokens):
    token = {"text": "x", "rows_read": 1, "candidates": [{"text": "y" * 40}] * 5}
    return {"role": "assistant", "content": text, "tokens": [token] * tokens, "figures": {"count": tokens}}


def test_a_short_conversation_is_kept_whole():
    conversation = [{"role": "user", "content": "a", "element": {}}, answer("b", 3)]
    packed = json.loads(run("store", "module.packed(given)", conversation))
    assert packed == [{"role": "user", "content": "a"}, conversation[1]]


@pytest.mark.parametrize(
    ("limit", "candidates", "tokens", "messages"),
    [
        (60_000, 3, 4, 4),
        (8_000, 0, 4, 4),
        (4_500, 0, 2, 4),
        (400, 0, 0, 4),
        (191, 0, 0, 3),
        (190, 0, 0, 2),
        (2, 0, 0, 0),
    ],
)
def test_a_long_conversation_loses_what_matters_least_first(limit, candidates, tokens, messages):
    conversation = [answer(f"text {number}", 60) for number in range(4)]
    text = run("store", f"module.packed(given, {limit})", conversation)
    assert len(text) <= limit
    kept = json.loads(text)
    assert [each["content"] for each in kept] == [f"text {number}" for number in range(4)][4 - messages :]
    assert sum("tokens" in each for each in kept) == tokens
    assert sum("candidates" in each["tokens"][0] for each in kept if "tokens" in each) == candidates
    assert all(each["figures"] == {"count": 60} for each in kept)


def test_what_is_kept_is_bounded():
    assert run("store", "[module.LIMIT, module.MESSAGES]") == [2_000_000, 200]
    conversation = [{"role": "user", "content": str(number)} for number in range(203)]
    kept = json.loads(run("store", "module.packed(given)", conversation))
    assert [kept[0]["content"], kept[-1]["content"], len(kept)] == ["3", "202", 200]


# ---- request ----------------------------------------------------------------------------------------------

SAID = [
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "", "failed": True},
    {"role": "user", "content": "two"},
    {"role": "assistant", "content": "three"},
    {"role": "user", "content": "four"},
]
VALUES = {
    "system": " be brief ",
    "max_tokens": "8",
    "temperature": "0",
    "top_k": "",
    "seed": "3",
    "key": "secret",
}


def test_a_request_has_turns_in_turns_and_the_settings_that_are_set():
    asked = run("request", "module.requestOf(...given)", [SAID, VALUES, {"head": ""}])
    assert asked == {
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "one\n\ntwo"},
            {"role": "assistant", "content": "three"},
            {"role": "user", "content": "four"},
        ],
        "max_tokens": 8,
        "temperature": 0,
        "top_k": 40,
        "top_p": 0.95,
        "min_p": 0.05,
        "seed": 3,
        "shortlist": {"trace": True, "progress": True},
    }


def test_an_answer_is_sampled_as_the_model_s_files_and_a_chat_on_the_command_line_do():
    assert run("request", "module.USUAL") == CHAT_SAMPLING
    suggested = [{"temperature": 0.2, "repetition_penalty": 1.1}, {"top_k": 64}, None]
    found = run("request", "given.map((each) => module.samplingOf(each ?? undefined))", suggested)
    assert found == [suggested[0], {**CHAT_SAMPLING, "top_k": 64}, CHAT_SAMPLING]
    given = [SAID, {"temperature": "0.5", "top_p": ""}, {"head": "", "suggested": suggested[0]}]
    asked = run("request", "module.requestOf(...given)", given)
    assert (asked["temperature"], asked["repetition_penalty"]) == (0.5, 1.1)
    assert "top_p" not in asked


def test_a_request_may_read_everything_and_may_go_on():
    values = {**VALUES, "system": " "}
    asked = run(
        "request", "module.requestOf(...given)", [SAID[:4], values, {"head": "dense", "continued": SAID[3]}]
    )
    assert asked["shortlist"]["head"] == "dense"
    assert (asked["continue_final_message"], asked["add_generation_prompt"]) == (True, False)
    assert [each["role"] for each in asked["messages"]] == ["user", "assistant"]


# ---- Markdown ---------------------------------------------------------------------------------------------


KEPT = ("href", "start", "language")


def written(nodes):
    """Nodes as text that is easy to compare."""
    return "".join(
        node
        if isinstance(node, str)
        else f"<{node['tag']}{''.join(f' {k}={node[k]}' for k in KEPT if node.get(k))}>"
        f"{written(node['children'])}</{node['tag']}>"
        for node in nodes
    )


MARKDOWN = {
    "plain": "<p>plain</p>",
    "a\nb\n\nc": "<p>a<br></br>b</p><p>c</p>",
    "# T #\n## U": "<h1>T #</h1><h2>U</h2>",
    "#no": "<p>#no</p>",
    "**b** *i* __b__ _i_ ~~s~~ ***x***": "<p><strong>b</strong> <em>i</em> "
    "<strong>b</strong> <em>i</em> <s>s</s> <strong><em>x</em></strong></p>",
    "snake_case_name 2 * 3 * 4 **open": "<p>snake_case_name 2 * 3 * 4 **open</p>",
    "**** ~5 \\*no\\* \\a": "<p>**** ~5 *no* \\a</p>",
    "**a _b** c": "<p><strong>a _b</strong> c</p>",
    "`a` `` b ` c `` `open": "<p><code>a</code> <code>b ` c</code> `open</p>",
    "`**no**`": "<p><code>**no**</code></p>",
    "```py\na < b\n\n  c\n```\nd": "<pre language=py>a < b\n\n  c</pre><p>d</p>",
    "~~~\n```\n~~~~": "<pre>```</pre>",
    "```\nstill being written": "<pre>still being written</pre>",
    "```": "<pre></pre>",
    "- a\n- b\n\n- c": "<ul><li>a</li><li>b</li><li>c</li></ul>",
    "1. a\n   - b\n   - c\n2. d": "<ol start=1><li>a<ul><li>b</li><li>c</li></ul></li><li>d</li></ol>",
    "3) a\n\nb": "<ol start=3><li>a</li></ol><p>b</p>",
    "* a\n\n  b\n* c": "<ul><li>a<p>b</p></li><li>c</li></ul>",
    "- a\n1. b": "<ul><li>a</li></ul><ol start=1><li>b</li></ol>",
    "1. a\n   ```\n   x\n     y\n   ```": "<ol start=1><li>a<pre>x\n  y</pre></li></ol>",
    "> a\n> > b": "<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote>",
    "a\n\n---\n***\nb": "<p>a</p><hr></hr><hr></hr><p>b</p>",
    "| a | b |\n|---|:-:|\n| 1 | **2** |\nx": "<table><thead><tr><th>a</th><th>b</th></tr></thead><tbody><tr>"
    "<td>1</td><td><strong>2</strong></td></tr></tbody></table><p>x</p>",
    "a | b\n---": "<p>a | b</p><hr></hr>",
    "[a](https://b.c/d) https://e.f/g. (http://h.i)": "<p><a href=https://b.c/d>a</a> "
    "<a href=https://e.f/g>https://e.f/g</a>. (<a href=http://h.i>http://h.i</a>)</p>",
    "![a](https://b.c/d.png)": "<p><a href=https://b.c/d.png>a</a></p>",
    "[a](javascript:alert(1)) [b](data:text/html,x) [c](//d.e) [f](JavaScript:g)": "<p>"
    "[a](javascript:alert(1)) [b](data:text/html,x) [c](//d.e) [f](JavaScript:g)</p>",
    '<script>alert(1)</script> <img src=x onerror="y"> &lt;': "<p>"
    '<script>alert(1)</script> <img src=x onerror="y"> &lt;</p>',
    "a\r\nb": "<p>a<br></br>b</p>",
    "": "",
}


def test_markdown_is_read():
    found = run("markdown", "given.map(module.parse)", list(MARKDOWN))
    for text, nodes in zip(MARKDOWN, found, strict=True):
        assert written(nodes) == MARKDOWN[text], text


def test_whatever_is_written_has_only_tags_and_links_that_are_known():
    parts = [
        "[a](javascript:x)",
        "<b>",
        "*",
        "_",
        "`",
        "```",
        "\n",
        "- ",
        "> ",
        "|",
        "http://x",
        "](",
        "[",
        "# ",
        "1. ",
        " ",
    ]
    texts = ["".join(parts[(i * j + j // 3) % len(parts)] for j in range(1, 60)) for i in range(1, 200)]
    tags = set()

    def walk(nodes):
        for node in nodes:
            if not isinstance(node, str):
                tags.add(node["tag"])
                assert set(node) <= {"tag", "children", "href", "start", "language"}
                assert node.get("href", "http://").startswith(("http://", "https://", "mailto:"))
                walk(node["children"])

    for nodes in run("markdown", "given.map(module.parse)", texts):
        walk(nodes)
    known = "p br h1 h2 h3 h4 h5 h6 hr blockquote ul ol li pre code strong em s a table thead tbody tr th td"
    assert tags <= set(known.split())
    assert len(tags) > 5


def test_no_text_takes_long():
    pieces = [
        "*a _b ~~c [d](",
        "`",
        "a``b```c",
        "[",
        "- a\n",
        "> ",
        "*",
        "# a ",
        "|-",
        "- ",
        "**a _b** ",
        "http://.",
        "```\n",
    ]
    texts = [piece * (60_000 // len(piece)) for piece in pieces]
    texts += ["```" + " " * 60_000 + "`", "# a" + " " * 60_000 + "b", "a|b\n-|-" + " " * 60_000 + "x"]
    timed = "given.map((text) => { const from = performance.now(); module.parse(text); "
    timed += "return performance.now() - from })"
    assert max(run("markdown", timed, texts)) < 5_000  # milliseconds; what is quadratic takes minutes
