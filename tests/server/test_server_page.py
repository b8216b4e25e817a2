"""The page at / in headless Chromium, where there is one."""

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


def set_to(page, **settings):
    page.locator("summary", has_text="Settings").click()
    for name, value in settings.items():
        page.locator(f"#settings [name={name}]").fill(str(value))
    page.locator("summary", has_text="Settings").click()


def say(page, text):
    page.locator("#prompt").fill(text)
    page.keyboard.press("Enter")


def answered(page, count=1):
    expect(page.locator(".message.assistant")).to_have_count(count)
    expect(page.locator("#send")).to_be_visible()


def test_an_answer_streams_with_what_each_token_read(visit, alone):
    page = visit.page
    say(page, "Hello")
    answered(page)
    prompt = alone.tokenizer.encode_chat([{"role": "user", "content": "Hello"}])
    expected = alone.generate(prompt, max_tokens=8, temperature=0).text
    assert page.locator(".message.assistant p").first.text_content() == expected
    bars = page.locator("#strip [role=option]")
    assert bars.count() in (8, 9)  # the token that ends a text is read for, too
    bars.nth(2).hover()
    expect(page.locator("#token caption")).to_contain_text("Token 3")
    assert page.locator("#token tbody tr").count() == 5
    scores = [float(cell) for cell in page.locator("#token tbody td:last-child").all_text_contents()]
    assert scores == sorted(scores, reverse=True)
    assert page.locator(".token.chosen").count() == 1
    assert "tokens/s" in page.locator("#speed").inner_text()
    assert visit.messages == []
    assert all(request.startswith((page.url, "data:")) for request in visit.requests)


def test_dense_answers_read_every_row_and_give_the_speed_to_compare_with(visit, alone):
    page = visit.page
    page.get_by_label("Dense: every row").check()
    say(page, "Hello")
    answered(page)
    vocabulary = alone.config.vocab_size
    expect(page.locator("#rows")).to_contain_text(f"{vocabulary:,} rows, 100 %")
    expect(page.locator("#dense-speed")).to_contain_text("tokens/s")
    page.get_by_label("Shortlisted").check()
    say(page, "Hello")
    answered(page, 2)
    expect(page.locator("#speed")).to_contain_text("× dense")


def test_stop_ends_an_answer_and_retry_gives_another(browser, serve_script):
    page = Visit(browser, serve_script(b"word " * 200, seconds=0.02)).page
    say(page, "Tell me")
    expect(page.locator(".message.assistant .token").nth(6)).to_be_attached()
    page.locator("#stop").click()
    expect(page.locator(".message.assistant .end")).to_have_text("Stopped.")
    said = page.locator(".message.assistant p").first.text_content()
    assert said.startswith("word")
    assert len(said) < 1000
    page.locator("#retry").click()
    expect(page.locator("#stop")).to_be_visible()
    expect(page.locator(".message.assistant")).to_have_count(1)
    page.locator("#stop").click()
    expect(page.locator("#send")).to_be_visible()
    page.close()


def test_a_reload_keeps_the_conversation_and_the_settings(visit):
    page = visit.page
    say(page, "Hello")
    answered(page)
    before = page.locator("#messages").inner_text()
    page.reload()
    expect(page.locator(".message")).to_have_count(2)
    assert page.locator("#messages").inner_text() == before
    assert page.locator("#settings [name=max_tokens]").input_value() == "8"
    assert page.locator("#strip [role=option]").count() >= 8
    page.locator("#clear").click()
    page.reload()
    expect(page.locator(".message")).to_have_count(0)


def test_a_server_that_goes_is_named_and_one_that_is_back_answers(visit):
    page = visit.page
    page.context.set_offline(True)
    say(page, "Hello")
    expect(page.locator("#connection")).to_contain_text("does not answer")
    expect(page.locator(".message.assistant .end")).to_contain_text("Retry")
    page.context.set_offline(False)
    expect(page.locator("#connection")).to_be_empty()
    page.locator("#retry").click()
    answered(page)
    expect(page.locator(".message.failed")).to_have_count(0)
    assert page.locator(".message.assistant p").first.text_content()


def test_what_the_server_refuses_is_shown_in_its_words(visit):
    page = visit.page
    set_to(page, temperature=2, max_tokens=100_000)
    say(page, "Hello")
    expect(page.locator(".message.failed .end")).to_contain_text("context")


def test_the_keyboard_reaches_everything(visit):
    page = visit.page
    say(page, "Hello")
    answered(page)
    page.locator("#strip").focus()
    page.keyboard.press("Home")
    expect(page.locator("#token caption")).to_contain_text("Token 1,")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#token caption")).to_contain_text("Token 2,")
    assert page.locator("#strip").get_attribute("aria-activedescendant") == "bar-1"
    names = page.locator("button:visible, textarea:visible, input:visible").evaluate_all(
        "all => all.map((each) => each.labels?.[0]?.textContent.trim() || each.textContent.trim())"
    )
    assert all(names)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1200])
def test_the_page_fits_and_can_be_read(browser, url, width, scheme):
    visit = Visit(browser, url, viewport={"width": width, "height": 740}, color_scheme=scheme)
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    style = "getComputedStyle(document.body)"
    ink, ground = visit.page.evaluate(f"[{style}.color, {style}.backgroundColor]")
    luminances = [sum(map(int, colour[4:-1].split(","))) for colour in (ink, ground)]
    assert (luminances[0] < luminances[1]) == (scheme == "light")
    assert abs(luminances[0] - luminances[1]) > 500
    visit.page.close()
