from pathlib import Path

import pytest
from builders import tiny_gguf

from shortlist import _native
from shortlist import recipe as recipes
from shortlist.checkpoints import open_checkpoint
from shortlist.errors import UsageError
from shortlist.fit.channels import unfitted_parts
from shortlist.peers import PEERS, PeerEntry, PeerError, bench
from shortlist.peers.bench import PREFILL_TOKENS, BenchOptions, measure, prompt_tokens, ratios
from shortlist.recipe import Recipe
from shortlist.sites.base import sites_of

RUN_KEYS = {
    "engine",
    "head",
    "settings",
    "decode_tokens_per_s",
    "prefill_tokens_per_s",
    "bytes_per_token",
    "bandwidth_share",
    "peak_rss_mb",
}


@pytest.fixture(autouse=True)
def _quick_bandwidth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_native, "read_bandwidth_gb_s", lambda: 10.0)


def test_report_has_the_figures_of_every_run(tiny_random: Path) -> None:
    options = BenchOptions(threads=1, heads=("dense", "exact"), decode_tokens=8, repetitions=2)
    report = measure(tiny_random, options)
    assert report["machine"] == {"read_gb_s": 10.0, "threads": 1, "isa": _native.isa()}
    assert [(run["engine"], run["head"]) for run in report["runs"]] == [
        ("shortlist", "dense"),
        ("shortlist", "exact"),
    ]
    for run in report["runs"]:
        assert run.keys() == RUN_KEYS
        expected = run["bytes_per_token"] * run["decode_tokens_per_s"] / 10e9
        assert run["bandwidth_share"] == pytest.approx(expected)
    assert report["ratios"].keys() == {"shortlist_exact/shortlist_dense"}


def test_a_recipe_is_measured_beside_the_heads(tiny_random: Path, tmp_path: Path) -> None:
    with open_checkpoint(tiny_random) as checkpoint:
        parts = unfitted_parts(sites_of(checkpoint, "qkv"))
        recipes.save(Recipe("tiny", checkpoint.fingerprint, {"head": None, **parts}), tmp_path)
    options = BenchOptions(threads=1, heads=("dense",), recipe=str(tmp_path), decode_tokens=2, repetitions=1)
    report = measure(tiny_random, options)
    assert [run["head"] for run in report["runs"]] == ["dense", "recipe"]
    assert "so" in report["runs"][1]["settings"], "the note on how its head was chosen"
    assert report["ratios"].keys() == {"shortlist_recipe/shortlist_dense"}


def test_a_peer_that_is_not_installed_is_named_with_the_line_that_installs_it(
    tiny_random: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = []
    monkeypatch.setitem(PEERS, "nobody", PeerEntry("no_such_module", "Nobody", "pip install nobody"))
    monkeypatch.setattr(bench, "Worker", lambda engine, *_: PEERS[engine].load())
    options = BenchOptions(threads=1, peers=("nobody",), heads=(), decode_tokens=1, repetitions=1)
    report = measure(tiny_random, options, progress=said.append)
    (run,) = report["runs"]
    assert run["error"].endswith("pip install nobody")
    assert report["ratios"] == {}
    assert said == ["loading nobody"]


def test_turns_are_interleaved_and_medians_taken(tiny_random: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turns = []
    seconds = iter([1.0, 9.0, 2.0, 9.0, 100.0, 9.0])

    class FakeWorker:
        settings = ""

        def __init__(self, engine: str, *_: object):
            self.engine = engine

        def __enter__(self) -> "FakeWorker":
            return self

        def __exit__(self, *_: object) -> None: ...

        def prefill(self, tokens: list[int]) -> dict[str, float]:
            assert len(tokens) == PREFILL_TOKENS
            turns.append(self.engine)
            return {"seconds": 1.0}

        def decode(self, _prompt: list[int], count: int) -> dict[str, float]:
            warm_up = count == 16
            return {
                "seconds": 0.0 if warm_up else next(seconds),
                "bytes_per_token": 2e9,
                "peak_rss_mb": 5.0,
            }

    monkeypatch.setattr(bench, "Worker", FakeWorker)
    options = BenchOptions(threads=1, peers=("llama.cpp",), heads=("dense",), decode_tokens=32, repetitions=3)
    report = measure(tiny_random, options)
    assert turns == ["shortlist", "llama.cpp"] * 3
    own, peer = report["runs"]
    assert own["decode_tokens_per_s"] == 32 / 2.0
    assert own["prefill_tokens_per_s"] == PREFILL_TOKENS == 512
    assert (own["bytes_per_token"], own["peak_rss_mb"]) == (2e9, 5.0)
    assert own["bandwidth_share"] == pytest.approx(2e9 * 16 / 10e9)
    assert peer["decode_tokens_per_s"] == 32 / 9.0
    assert report["ratios"]["shortlist_dense/llama.cpp"] == pytest.approx(4.5)


def test_ratios_compare_own_heads_with_dense_and_with_every_peer() -> None:
    def row(decode: float, prefill: float) -> dict[str, float]:
        return {"decode_tokens_per_s": decode, "prefill_tokens_per_s": prefill}

    rows = {
        "shortlist_dense": row(20, 300),
        "shortlist": row(60, 300),
        "shortlist_exact": row(30, 300),
        "llama.cpp": row(10, 100),
        "transformers": {"error": "not installed"},
    }
    assert ratios(rows) == {
        "shortlist/shortlist_dense": 3,
        "shortlist_exact/shortlist_dense": 1.5,
        "shortlist_dense/llama.cpp": 2,
        "shortlist/llama.cpp": 6,
        "shortlist_exact/llama.cpp": 3,
        "shortlist_dense/llama.cpp prefill": 3,
    }


def test_prompt_is_plain_text_without_a_chat_template(tiny_random: Path) -> None:
    assert len(prompt_tokens(tiny_random)) > 20


def test_a_context_that_is_too_short_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    tiny_gguf("llama", path, max_position_embeddings=256)
    with pytest.raises(UsageError, match=r"tiny\.gguf takes 256 tokens at most, and bench needs 512"):
        measure(path, BenchOptions(heads=("dense",)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"peers": ("vllm",)}, "no peer vllm: choose llama.cpp, "),
        ({"decode_tokens": 0}, "from 1 to 1024, not 0"),
        ({"decode_tokens": 1025}, "from 1 to 1024, not 1025"),
        ({"repetitions": 0}, "at least 1 repetition"),
    ],
)
def test_options_out_of_range_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        BenchOptions(**options)


def test_what_is_measured_where_nothing_is_said() -> None:
    options = BenchOptions()
    assert (options.decode_tokens, options.repetitions, options.ffn) == (128, 5, "auto")
    assert (options.threads, options.peers, options.recipe) == (None, (), None)
    assert options.heads == ("dense", "estimated", "exact")
    assert BenchOptions(decode_tokens=1024).decode_tokens == 1024
    assert BenchOptions(decode_tokens=1, repetitions=1).repetitions == 1


@pytest.mark.parametrize(("context", "fits"), [(1055, False), (1056, True)])
def test_prompt_and_answer_must_fit_the_context(
    context: int, fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tiny.gguf"
    tiny_gguf("llama", path, max_position_embeddings=context)
    monkeypatch.setattr(bench, "prompt_tokens", lambda _: [1] * 32)
    options = BenchOptions(threads=1, heads=(), decode_tokens=1024, repetitions=1)
    if fits:
        assert measure(path, options)["runs"] == []
    else:
        with pytest.raises(UsageError, match="and bench needs 1056"):
            measure(path, options)


def test_an_engine_that_fails_in_a_round_is_left_out_of_the_rest(
    tiny_random: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = []

    class Failing:
        settings = ""

        def __init__(self, *_: object): ...

        def __enter__(self) -> "Failing":
            return self

        def __exit__(self, *_: object) -> None: ...

        def decode(self, *_: object) -> dict[str, float]:
            return {}

        def prefill(self, _: object) -> dict[str, float]:
            raise PeerError("out of memory")

    monkeypatch.setattr(bench, "Worker", Failing)
    options = BenchOptions(threads=1, peers=("llama.cpp",), heads=(), decode_tokens=1, repetitions=3)
    report = measure(tiny_random, options, said.append)
    assert report["runs"] == [{"engine": "llama.cpp", "head": "dense", "error": "out of memory"}]
    assert said == ["loading llama.cpp", "round 1 of 3: llama.cpp"]
