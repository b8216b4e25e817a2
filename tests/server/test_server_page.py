"""The page at / in headless Chromium, where there is one."""

import re

import pytest
from chromium import PATIENCE, Visit

expect = pytest.importorskip("playwright.sync_api").expect

pytestmark = pytest.mark.slow

expect.set_options(timeout=PATIENCE)


@pytest.fixture
def visit(browser, url):
    visit = Visit(browser, url)
    expect(visit.page.locator("#facts")).to_contain_text("exact head")
    set_to(visit.page, max_tokens=8, temperature=0)
    yield visit
    visit.page.close()


@pytest.fixture
def scripted(browser, serve_script):
    """Open the page of a server that answers everything with a text."""
    visits = []

    def opened(script, *, seconds=0.0, viewport=None, **settings):
        visits.append(Visit(browser, serve_script(script, seconds=seconds, **settings), viewport=viewport))
        return visits[-1].page

    yield opened
    for visit in visits:
        visit.page.close()


def set_to(page, **settings):
    page.locator("summary", has_text="Settings").click()
    for name, value in settings.items():
        page.locator(f"#settings [name={name}]").fill(str(value))
    page.locator("summary", has_text="Settings").click()


def say(page, text):
    page.locator("#prompt").fill(text)
    page.keyboard.press("Enter")


def answered(page, count=1):
    expect(page.locator(".message:not(.user)")).to_have_count(count)
    expect(page.locator("#send")).to_be_visible()


def at_end(page):
    return page.locator("#messages").evaluate(
        "(all) => all.scrollTop + all.clientHeight >= all.scrollHeight - 2"
    )


def no_empty_bubble(page):
    texts = page.locator(".message.assistant, .message.user").evaluate_all(
        "all => all.map((each) => each.querySelector('.rendered, .text')?.textContent ?? '')"
    )
    return all(text.strip() for text in texts)


# ---- an answer and its figures ----------------------------------------------------------------------------


def test_an_answer_streams_with_what_each_token_read(visit, alone):
    page = visit.page
    say(page, "Hello")
    answered(page)
    prompt = alone.tokenizer.encode_chat([{"role": "user", "content": "Hello"}])
    expected = alone.generate(prompt, max_tokens=8, temperature=0).text
    kept = page.evaluate("JSON.parse(sessionStorage['shortlist-conversation'])")
    assert kept[1]["content"] == expected
    bars = page.locator("#strip [role=option]")
    assert bars.count() in (8, 9)  # the token that ends a text is read for, too
    bars.nth(2).hover()
    expect(page.locator("#token caption")).to_contain_text("Token 3")
    headings = page.locator("#token th").all_text_contents()
    assert headings == ["rank", "token", "estimate", "exact", "probability"]
    rows = page.locator("#token tbody tr").all()
    assert len(rows) == 5
    assert [row.locator("td").first.inner_text() for row in rows] == ["1", "2", "3", "4", "5"]
    cells = rows[0].locator("td").all_text_contents()
    assert "✓ chosen" in cells[1]  # greedy, so the likeliest
    assert re.fullmatch(r"−?\d+\.\d\d ± \d+\.\d\d", cells[2])
    assert cells[4].endswith(" %")
    assert page.locator("#token tr.chosen").count() == 1
    assert "tokens/s" in page.locator("#speed").inner_text()
    assert visit.messages == []
    assert all(request.startswith((page.url, "data:")) for request in visit.requests)


def test_full_answers_read_every_row_and_give_the_speed_to_compare_with(visit, alone):
    page = visit.page
    page.get_by_label("Full (reads everything)").check()
    say(page, "Hello")
    answered(page)
    vocabulary = alone.config.vocab_size
    expect(page.locator("#rows")).to_have_text(f"{vocabulary:,} of {vocabulary:,} (100 %)")
    expect(page.locator("#dense-speed")).to_contain_text("tokens/s")
    page.locator("#strip [role=option]").first.hover()
    assert page.locator("#token th").all_text_contents() == ["rank", "token", "exact", "probability"]
    page.get_by_label("Fast").check()
    say(page, "Hello")
    answered(page, 2)
    expect(page.locator("#speed")).to_contain_text("× full")


def test_a_bar_is_as_high_as_its_share(visit):
    page = visit.page
    say(page, "Hello")
    answered(page)
    tokens = page.evaluate("JSON.parse(sessionStorage['shortlist-conversation'])[1].tokens")
    strip = page.locator("#strip").evaluate("(strip) => strip.clientHeight")
    assert strip == 100  # pixels: 1 % is one of them
    heights = page.locator("#strip [role=option] > div").evaluate_all(
        "all => all.map((each) => each.getBoundingClientRect().height)"
    )
    assert heights == pytest.approx([100 * token["rows_share"] for token in tokens], abs=0.6)
    assert page.locator("#axis span").all_text_contents() == ["100 %", "50 %", "0 %"]
    page.locator("#measure").select_option("bytes")
    dense = page.evaluate("fetch('v1/models').then((r) => r.json())")["data"][0]["shortlist"][
        "dense_bytes_per_token"
    ]
    heights = page.locator("#strip [role=option] > div").evaluate_all(
        "all => all.map((each) => each.getBoundingClientRect().height)"
    )
    assert heights == pytest.approx(
        [min(100, 100 * token["bytes_read"] / dense) for token in tokens], abs=0.6
    )


def test_white_space_and_special_tokens_can_be_seen(scripted):
    page = scripted(b"a b\n\tc")
    set_to(page, temperature=0)
    say(page, "Hello")
    answered(page)
    page.locator(".as-tokens").click()
    assert page.locator(".token").all_text_contents() == ["a", "␣", "b", "⏎", "⇥", "c", "token 257"]
    page.locator(".token").nth(3).hover()
    expect(page.locator("#token caption")).to_contain_text("Token 4, ⏎:")
    page.locator(".token").last.hover()
    expect(page.locator("#token .special")).to_have_text("token 257")
    page.locator(".as-tokens").click()
    expect(page.locator(".message.assistant .rendered")).to_be_visible()


def test_a_chosen_token_that_is_unlikely_is_marked_with_its_rank(visit):
    page = visit.page
    set_to(page, temperature=2, top_p=1, seed=3, max_tokens=30)
    say(page, "Hello")
    answered(page)
    tokens = page.evaluate("JSON.parse(sessionStorage['shortlist-conversation'])[1].tokens")
    place, token = next((i, token) for i, token in enumerate(tokens) if token["rank"] > 5)
    page.locator("#strip [role=option]").nth(place).hover()
    expect(page.locator("#token tr.chosen td").first).to_have_text(str(token["rank"]))
    assert page.locator("#token tbody tr").count() == 6


def test_a_reload_keeps_the_conversation_its_figures_and_the_settings(visit):
    page = visit.page
    page.get_by_label("Full (reads everything)").check()
    say(page, "Hello")
    answered(page)
    say(page, "Hello again")
    answered(page, 2)
    ids = ["speed", "dense-speed", "rows", "bytes", "saved"]

    def figures():
        return [page.locator(f"#{each}").inner_text() for each in ids]

    before, text = figures(), page.locator("#messages").inner_text()
    assert all(re.search(r"\d", each) for each in before)
    page.reload()
    expect(page.locator(".message")).to_have_count(4)
    expect(page.locator("#facts")).to_contain_text("exact head")
    assert figures() == before
    assert page.locator("#messages").inner_text() == text
    assert page.locator("#settings [name=max_tokens]").input_value() == "8"
    assert page.get_by_label("Full (reads everything)").is_checked()
    assert page.locator("#strip [role=option]").count() >= 8
    page.locator("#clear").click()
    expect(page.locator("#speed")).to_have_text("–")
    expect(page.locator("#dense-speed")).to_have_text("none yet")
    page.reload()
    expect(page.locator("#facts")).to_contain_text("exact head")
    expect(page.locator(".message")).to_have_count(0)
    expect(page.locator("#welcome")).to_be_visible()


# ---- how an answer ends -----------------------------------------------------------------------------------


def test_stop_ends_an_answer_and_retry_gives_another(scripted):
    page = scripted(b"word " * 200, seconds=0.02)
    say(page, "Tell me")
    expect(page.locator(".message.assistant .rendered")).to_contain_text("word word")
    page.locator("#stop").click()
    expect(page.locator(".message.assistant .end")).to_have_text("Stopped.")
    said = page.locator(".message.assistant .rendered").text_content()
    assert len(said) < 1000
    page.locator("#retry").click()
    expect(page.locator("#stop")).to_be_visible()
    expect(page.locator(".message.assistant")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator("#send")).to_be_visible()
    expect(page.locator(".message .end")).to_contain_text("Stopped")


def test_an_answer_that_is_stopped_at_once_leaves_no_empty_bubble(scripted):
    page = scripted(b"word", seconds=1.5)
    say(page, "Tell me")
    page.keyboard.press("Escape")
    expect(page.locator(".message.note .end")).to_have_text("Stopped before the first word.")
    assert no_empty_bubble(page)
    page.reload()
    expect(page.locator(".message.note .end")).to_have_text("Stopped before the first word.")


def test_a_reload_while_there_is_no_word_yet_leaves_no_empty_bubble(scripted):
    page = scripted(b"word", seconds=2)
    say(page, "Tell me")
    expect(page.locator(".waiting")).to_be_visible()
    page.reload()
    expect(page.locator(".message.note .end")).to_have_text("Stopped before the first word.")
    assert no_empty_bubble(page)


def test_an_empty_answer_leaves_no_empty_bubble(scripted):
    page = scripted(b"")
    say(page, "Tell me")
    expect(page.locator(".message.note .end")).to_contain_text("without any text")
    assert no_empty_bubble(page)
    say(page, "Again")  # what follows an unanswered message is one turn with it
    answered(page, 2)
    expect(page.locator(".message.failed")).to_have_count(0)


def test_what_the_server_refuses_is_shown_as_an_error_in_its_words(visit):
    page = visit.page
    set_to(page, max_tokens=8)
    say(page, "word " * 2000)
    error = page.locator(".message.failed .end")
    expect(error).to_contain_text("tokens")
    assert error.get_attribute("role") == "alert"
    assert no_empty_bubble(page)
    style = "(each) => [getComputedStyle(each).borderLeftWidth, getComputedStyle(each).color]"
    width, colour = error.evaluate(style)
    assert colour != page.locator("#about-head").evaluate(style)[1]
    assert width == "4px"
    page.get_by_role("button", name="Edit message").click()  # else it would be part of all that follows
    expect(page.locator(".message")).to_have_count(0)
    assert page.locator("#prompt").input_value() == ("word " * 2000).strip()


def test_an_error_in_the_middle_of_an_answer_stands_below_what_was_said(scripted):
    page = scripted(b"word " * 200, seconds=0.02, timeout=0.8)
    say(page, "Tell me")
    expect(page.locator(".message.failed .end")).to_contain_text("took too long")
    assert page.locator(".message.failed .rendered").text_content().startswith("word")


def test_a_server_that_goes_is_named_and_one_that_is_back_answers(visit):
    page = visit.page
    page.context.set_offline(True)
    say(page, "Hello")
    expect(page.locator("#connection")).to_contain_text("does not answer")
    expect(page.locator(".message.failed .end")).to_contain_text("Retry")
    assert no_empty_bubble(page)
    page.context.set_offline(False)
    expect(page.locator("#connection")).to_be_empty()
    page.locator("#retry").click()
    answered(page)
    expect(page.locator(".message.failed")).to_have_count(0)
    assert page.locator(".message.assistant .rendered").text_content()


def test_an_answer_that_was_cut_off_can_be_continued(scripted):
    page = scripted(b"one two three")
    set_to(page, max_tokens=4)
    asked = []
    page.on("request", lambda request: asked.append(request.post_data_json) if request.post_data else None)
    say(page, "Count")
    expect(page.locator(".message.assistant .end")).to_contain_text("Cut off")
    page.locator(".continue").click()
    expect(page.locator(".message.assistant")).to_have_count(1)
    expect(page.locator("#send")).to_be_visible()
    assert asked[1]["continue_final_message"] is True
    assert asked[1]["add_generation_prompt"] is False
    assert asked[1]["messages"][-1] == {"role": "assistant", "content": "one "}


# ---- where it scrolls, and while it waits -----------------------------------------------------------------


def test_a_continued_answer_goes_on_as_the_model_would(visit, alone):
    page = visit.page
    set_to(page, max_tokens=4, temperature=0)
    said = []
    for _ in range(2):
        if said:
            page.locator(".continue").click()
        else:
            say(page, "Hello")
        answered(page)
        kept = page.evaluate("JSON.parse(sessionStorage['shortlist-conversation'])[1]")
        said.append(kept["content"])
        assert not kept.get("failed")
    start, whole = said
    messages = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": start}]
    tokens = alone.tokenizer.encode_chat(messages, add_generation_prompt=False, continue_final_message=True)
    assert whole == start + alone.generate(tokens, max_tokens=4, temperature=0).text
    assert page.locator("#strip [role=option]").count() == len(kept["tokens"]) >= 8


def test_sending_scrolls_to_the_new_message_wherever_one_was(scripted):
    page = scripted(b"line\n\n" * 30, viewport={"width": 900, "height": 500})
    say(page, "First")
    answered(page)
    assert at_end(page)
    page.locator("#messages").evaluate("(all) => (all.scrollTop = 0)")
    page.wait_for_timeout(100)
    say(page, "Second")
    answered(page, 2)
    assert at_end(page)


def test_who_scrolls_up_while_it_writes_is_left_there(scripted):
    page = scripted(b"line\n\n" * 150, seconds=0.01, viewport={"width": 900, "height": 500})
    say(page, "First")
    page.wait_for_function("document.getElementById('messages').scrollHeight > 900")
    page.locator("#messages").evaluate("(all) => (all.scrollTop = 0)")
    height = page.locator("#messages").evaluate("(all) => all.scrollHeight")
    page.wait_for_function(f"document.getElementById('messages').scrollHeight > {height}")
    assert page.locator("#messages").evaluate("(all) => all.scrollTop") == 0
    page.keyboard.press("Escape")


def test_a_long_prompt_shows_how_far_it_is_read(scripted):
    page = scripted(b"word", seconds=1.0, context_length=2048)
    set_to(page, max_tokens=8)
    page.locator("#prompt").fill("x" * 1000)
    page.keyboard.press("Enter")
    waiting = page.locator(".message .waiting")
    expect(waiting).to_have_text(re.compile(r"Reading the conversation: \d+ of 1,0\d\d tokens"))
    share = page.locator("progress").evaluate("(bar) => bar.value / bar.max")
    assert 0 < share < 1
    answered(page)
    expect(waiting).to_have_count(0)


# ---- text ------------------------------------------------------------------------------------------------


def test_markdown_is_shown_and_html_is_only_text(scripted):
    answer = (
        b"# Title\n\n**bold** and `code`\n\n```js\nlet a = 1;\n```\n\n- one\n- two\n\n"
        b'<img src=x onerror="document.title=1"><script>document.title=2</script> [x](javascript:alert(1))'
    )
    page = scripted(answer)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    say(page, "Hello")
    answered(page)
    text = page.locator(".message.assistant .rendered")
    assert text.locator("h1").text_content() == "Title"
    assert text.locator("strong").text_content() == "bold"
    assert text.locator("pre code").text_content() == "let a = 1;"
    assert text.locator("li").count() == 2
    assert text.locator("img, script, a").count() == 0
    expect(text).to_contain_text('<img src=x onerror="document.title=1"><script>')
    assert page.title() == "tiny"
    text.get_by_role("button", name="Copy").click()
    expect(text.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "let a = 1;"
    page.locator(".message.assistant header .copy").click()
    expect(page.locator(".message.assistant header .copy")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == answer.decode()


def test_what_the_user_writes_stays_as_it_is(scripted):
    page = scripted(b"ok")
    say(page, "**not bold** <b>\n  indented")
    answered(page)
    assert page.locator(".message.user .text").text_content() == "**not bold** <b>\n  indented"


# ---- keyboard, windows, a first visit --------------------------------------------------------------------


def test_an_example_is_one_click_and_the_box_has_the_focus(scripted):
    page = scripted(b"ok")
    assert page.evaluate("document.activeElement.id") == "prompt"
    assert page.locator("#welcome button").count() == 3
    page.locator("#welcome button").nth(1).click()
    answered(page)
    assert "poem" in page.locator(".message.user .text").text_content()
    expect(page.locator("#welcome")).to_be_hidden()
    assert page.evaluate("document.activeElement.id") == "prompt"


def test_the_keyboard_reaches_everything(visit):
    page = visit.page
    page.locator("#prompt").focus()
    page.keyboard.type("Hello")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("there")
    assert page.locator("#prompt").input_value() == "Hello\nthere"
    page.keyboard.press("Enter")
    answered(page)
    assert page.locator(".message.user .text").text_content() == "Hello\nthere"
    page.locator("#strip").focus()
    page.keyboard.press("Home")
    expect(page.locator("#token caption")).to_contain_text("Token 1,")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#token caption")).to_contain_text("Token 2,")
    assert page.locator("#strip").get_attribute("aria-activedescendant") == "bar-1"
    page.keyboard.press("End")
    page.keyboard.press("ArrowRight")
    last = page.locator("#strip [role=option]").count()
    expect(page.locator("#token caption")).to_contain_text(f"Token {last},")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#token caption")).to_contain_text(f"Token {last - 1},")
    names = page.locator("button:visible, textarea:visible, input:visible, select:visible").evaluate_all(
        "all => all.map((each) => each.labels?.[0]?.textContent.trim() || each.textContent.trim())"
    )
    assert all(names)


LUMINANCE = """(all) => {
  const light = (colour) => {
    const parts = colour.match(/[\\d.]+/g).slice(0, 3).map(Number).map((part) => part / 255)
      .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const ground = (each) => {
    for (; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if (!colour.startsWith("rgba(0, 0, 0, 0") && !colour.startsWith("color(")) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  return all.filter((each) => each.checkVisibility() && each.textContent.trim()).map((each) => {
    const [a, b] = [light(getComputedStyle(each).color), light(ground(each))].sort().reverse();
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), each.outerHTML.slice(0, 80)];
  });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1200])
def test_the_page_fits_and_can_be_read(browser, url, width, scheme):
    visit = Visit(browser, url, viewport={"width": width, "height": 740}, color_scheme=scheme)
    page = visit.page
    expect(page.locator("#model")).to_have_text("tiny")
    say(page, "word " * 2000)
    expect(page.locator(".message.failed")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.documentElement.scrollHeight") <= 740
    contrasts = page.locator("p, h1, h2, h3, dt, dd, button, summary, label, .end, .text").evaluate_all(
        LUMINANCE
    )
    assert [each for each in contrasts if each[0] < 4.5] == []
    style = "getComputedStyle(document.body)"
    ink, ground = page.evaluate(f"[{style}.color, {style}.backgroundColor]")
    luminances = [sum(map(int, colour[4:-1].split(","))) for colour in (ink, ground)]
    assert (luminances[0] < luminances[1]) == (scheme == "light")
    assert page.locator("#panel-content").is_visible() == (width > 736)
    if width < 736:
        assert page.locator("#top").bounding_box()["height"] < 60
        assert page.locator("#panel").bounding_box()["height"] < 60
        page.locator("#panel > summary").click()
        expect(page.locator("#panel-content")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("#prompt").is_visible()
    visit.page.close()


def test_a_key_is_asked_for_and_not_kept(browser, serve_script):
    page = Visit(browser, serve_script(b"ok", api_keys=("secret",))).page
    expect(page.locator("#connection")).to_contain_text("key")
    page.locator("#settings [name=key]").fill("secret")
    page.locator("#settings [name=key]").blur()
    expect(page.locator("#model")).to_have_text("tiny")
    expect(page.locator("#connection")).to_be_empty()
    say(page, "Hello")
    answered(page)
    assert "secret" not in page.evaluate("JSON.stringify(sessionStorage) + JSON.stringify(localStorage)")
    page.close()
