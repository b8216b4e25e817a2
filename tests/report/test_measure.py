"""A whole report of a tiny model."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from builders import tiny_gguf
from report_example import example_figures

from shortlist.checkpoints import open_checkpoint
from shortlist.checkpoints.parts import describe_parts
from shortlist.errors import RecipeError, UsageError
from shortlist.model.decoder import Decoder
from shortlist.model.tokenizer.tokenizer import Tokenizer
from shortlist.peers import PeerError
from shortlist.report import speed
from shortlist.report.measure import Sizes, Subject, _bytes, _frontier, _sample, _tokens, measure
from shortlist.report.sample import sentence_start
from shortlist.sites.head import exact_head

SIZES = Sizes(fit=96, test=48, recall=24, strip=16, head_rows=160, speed_tokens=2, fewest=100)
TEXT = "the cat and the dog and the bird " * 8


class NoWorker:
    def __init__(self, engine, *_):
        raise PeerError(f"{engine} is not installed here")


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "tiny.gguf"
    tiny_gguf("llama", path, "Q8_0", tie_word_embeddings=True)
    with open_checkpoint(path) as checkpoint:
        decoder = Decoder(checkpoint, threads=1)
        yield Subject(
            name="tiny",
            checkpoint=checkpoint,
            tokenizer=Tokenizer.from_checkpoint(checkpoint),
            dense=decoder,
            decoder=decoder,
            head=exact_head(decoder.head_rows),
            recipe=None,
            threads=1,
        )


@pytest.fixture(scope="module")
def stages():
    return []


@pytest.fixture(scope="module")
def figures(subject, stages):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "Worker", NoWorker)
        patch.setattr("shortlist._native.read_bandwidth_gb_s", lambda: 10.0)
        return measure(subject, TEXT, SIZES, lambda stage, share: stages.append((stage, share)))


def same_form(found, expected):
    """Dictionaries have the same keys all the way down; of lists the first element counts."""
    if isinstance(expected, dict):
        assert set(found) == set(expected)
        for key, value in expected.items():
            if key not in ("file", "per_token", "found"):  # keyed by what there is
                same_form(found[key], value)
    elif isinstance(expected, list) and found and expected:
        same_form(found[0], expected[0])


def test_figures_have_the_form_that_pages_are_tested_with(figures):
    example = example_figures()
    assert figures["layers"] is None
    assert figures["speed"]["peer"] == {"name": "llama.cpp", "error": "llama.cpp is not installed here"}
    example["speed"]["peer"] = figures["speed"]["peer"]
    same_form({**figures, "layers": example["layers"]}, example)
    assert json.loads(json.dumps(figures)) == figures


def test_bytes_add_up_to_what_a_token_reads(figures):
    points = {point["name"]: point for point in figures["speed"]["points"]}
    assert list(points) == ["dense", "exact"]
    for name, parts in figures["bytes"]["per_token"].items():
        assert sum(parts.values()) == pytest.approx(points[name]["bytes_per_token"])
    assert points["exact"]["perplexity_change"] == 0
    assert points["exact"]["agreement"] == points["dense"]["rows_share"] == 1


def test_experts_count_as_what_a_token_takes_of_them(tmp_path):
    tiny_gguf("qwen3_moe", tmp_path / "moe.gguf", "F32")
    with open_checkpoint(tmp_path / "moe.gguf") as checkpoint:
        stored = {name: part["bytes"] for name, part in describe_parts(checkpoint).items()}
        point = {"name": "dense", "layer_bytes": 1000.0, "bytes_per_token": 1500.0}
        read = _bytes(checkpoint, [point])["per_token"]["dense"]
    experts = stored["experts"] * 2 / 8
    assert read["feed-forward"] == pytest.approx(1000 * experts / (experts + stored["attention"]))
    assert sum(read.values()) == pytest.approx(1500)


def test_recall_is_measured_on_head_and_layer(figures):
    head, ffn = figures["recall"]["head"], figures["recall"]["ffn"]
    assert (head["rows"], head["sample"], ffn["layer"], ffn["neurons"]) == (320, 160, 1, 96)
    for table in (head, ffn):
        shares = {method["estimator"]: method["bytes_share"] for method in table["methods"]}
        assert shares["exact"] == 1
        assert {"random", "low_rank", "quantized", "neighbour"} <= set(shares)


def test_the_strip_covers_the_sample_in_order(figures, subject):
    text = "".join(token["text"] for token in figures["strip"]["tokens"])
    tokens = subject.tokenizer.encode(TEXT, add_special=False)
    whole = subject.tokenizer.decode(tokens[96 * len(tokens[:144]) // 144 :])
    assert text
    assert text in whole
    assert all(1 <= token["rows"] <= 320 and token["dense_rank"] == 1 for token in figures["strip"]["tokens"])


def test_progress_goes_forward_in_every_stage(figures, stages):
    by_stage = {}
    for stage, share in stages:
        by_stage.setdefault(stage, []).append(share)
    assert {"timing", "comparing: exact", "estimating the head", "estimating a layer"} <= set(by_stage)
    for shares in by_stage.values():
        assert shares == sorted(shares)
        assert 0 <= shares[0] <= shares[-1] <= 1


def test_without_a_text_the_model_writes_one(subject, monkeypatch):
    monkeypatch.setattr(speed, "Worker", NoWorker)
    asked = []

    def write(decoder, tokenizer, count, progress):
        asked.append(count)
        return np.zeros((count, 64), np.float32), np.arange(count) % 200

    monkeypatch.setattr("shortlist.report.measure.write_passages", write)
    figures = measure(subject, None, SIZES)
    assert asked == [144]
    assert figures["text"] == {"written_by_the_model": True, "fit_tokens": 96, "test_tokens": 48}


def test_a_text_that_is_too_short_is_refused(subject):
    with pytest.raises(UsageError, match="the text has 2 tokens and 100 are needed: name a longer one"):
        measure(subject, "ab", SIZES)


def test_so_much_is_measured_as_the_docs_say():
    sizes = Sizes()
    assert (sizes.fit, sizes.test, sizes.recall, sizes.head_rows, sizes.strip) == (1024, 384, 64, 8192, 120)
    assert (sizes.fewest, sizes.speed_tokens) == (128, 48)


def test_a_text_that_is_just_long_enough_is_split_in_proportion(subject):
    fit, test = _tokens(subject, "ab" * 50, Sizes(fit=60, test=30, fewest=90), lambda *_: None)
    assert (len(fit), len(test)) == (60, 30)  # no more than is wanted
    tokens = subject.tokenizer.encode("ab" * 50, add_special=False)
    fit, test = _tokens(subject, "ab" * 50, Sizes(fit=300, test=100, fewest=len(tokens)), lambda *_: None)
    assert fit + test == tokens
    assert len(fit) == len(tokens) * 3 // 4
    with pytest.raises(UsageError, match=f"has {len(tokens)} tokens and {len(tokens) + 1} are needed"):
        _tokens(subject, "ab" * 50, Sizes(fewest=len(tokens) + 1), lambda *_: None)


def test_a_sample_starts_at_a_sentence_and_has_a_token_before_it_where_nothing_else_is(subject):
    text = "and the cat. The dog and the bird went on and on and on"
    tokens = subject.tokenizer.encode(text, add_special=False)
    start = sentence_start(subject.tokenizer, tokens, 4)
    assert start > 0
    assert subject.tokenizer.decode(tokens[start:]).strip().startswith("The dog")
    assert subject.prefix == []
    assert _sample(subject, tokens, 4) == tokens[start - 1 : start + 4]
    with_prefix = SimpleNamespace(tokenizer=subject.tokenizer, prefix=[1])
    assert _sample(with_prefix, tokens, 4) == tokens[start : start + 4]
    plain = tokens[:4]
    assert _sample(subject, plain, 9) == plain


POINT = {"name": "x", "tokens_per_s": 5, "perplexity_change": 0.1, "agreement": 1, "bytes_per_token": 7}


def test_a_frontier_is_what_the_recipe_says():
    assert _frontier(None) == []
    assert _frontier(SimpleNamespace(measured={}, model="m")) == []
    found = _frontier(SimpleNamespace(measured={"frontier": [POINT]}, model="m"))
    assert found == [POINT]
    assert [type(value) for value in found[0].values()] == [str, float, float, float, float]


@pytest.mark.parametrize("damaged", [[{"name": "x"}], [7], [POINT | {"agreement": "much"}], 7])
def test_a_damaged_frontier_is_one_line(damaged):
    with pytest.raises(RecipeError, match="the frontier of the recipe of m is damaged: tune another recipe"):
        _frontier(SimpleNamespace(measured={"frontier": damaged}, model="m"))
