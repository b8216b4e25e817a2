"""The whole way from a file to text, with a tiny random model and with the real ones."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from builders import tiny_gguf

import shortlist
from shortlist.checkpoints import open_checkpoint
from shortlist.engine.generation import Generation
from shortlist.model.decoder import available_threads

OPTION_SETS = (
    {},
    {"repetition_penalty": 1.3},
    {"temperature": 0.7},
    {"temperature": 1.0, "top_k": 40},
    {"temperature": 1.0, "top_p": 0.9},
    {"temperature": 1.5, "min_p": 0.05},
    {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05, "repetition_penalty": 1.1},
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    tiny_gguf("llama", path, "Q8_0")
    return path


@pytest.mark.parametrize("options", OPTION_SETS, ids=str)
def test_exact_text_is_the_dense_text(tiny, options):
    texts = []
    for head in ("dense", "exact"):
        with shortlist.load(tiny, head=head) as model:
            texts.append(model.generate("the ", max_tokens=40, seed=3, **options).tokens)
    assert texts[0] == texts[1]
    assert len(texts[0]) > 1


def test_logits_are_those_of_the_dense_head(tiny):
    with shortlist.load(tiny, head="exact") as model:
        tokens = model.encode("the cat")
        logits, hidden = model.logits(tokens), model.hidden(tokens)
        assert logits.shape == (len(tokens), model.config.vocab_size)
        assert hidden.shape == (len(tokens), model.config.width)
        assert model.generate(tokens, max_tokens=1).tokens == [int(logits[-1].argmax())]


def test_threads_may_share_a_model(tmp_path):
    # In float32: what is computed again goes through the batched kernels, whose last bits differ.
    tiny_gguf("llama", tmp_path / "tiny.gguf")
    prompts = ["the ", "cat", "a dog and", "the bird"]
    with (
        shortlist.load(tmp_path / "tiny.gguf", head="dense", threads=2) as model,
        ThreadPoolExecutor(len(prompts)) as pool,
    ):
        alone = [model.generate(prompt, max_tokens=12).tokens for prompt in prompts]
        together = list(pool.map(lambda prompt: model.generate(prompt, max_tokens=12).tokens, prompts * 5))
    assert together == alone * 5


def test_a_closed_model_says_so(tiny):
    model = shortlist.load(tiny, head="dense")
    model.close()
    model.close()
    for use in (model.generate, model.logits, model.encode):
        with pytest.raises(shortlist.UsageError, match="closed"):
            use("the ")


def test_options_out_of_range(tiny):
    with pytest.raises(shortlist.UsageError, match="context"):
        shortlist.load(tiny, head="dense", context=257)
    with pytest.raises(shortlist.UsageError, match="threads"):
        shortlist.load(tiny, head="dense", threads=0)
    with pytest.raises(shortlist.UsageError, match="nonesuch"):
        shortlist.load("nonesuch")


def test_what_is_shown_of_a_model(tiny):
    with open_checkpoint(tiny) as checkpoint:
        assert re.fullmatch(r"<Checkpoint .*tiny\.gguf: llama, \d+ tensors>", repr(checkpoint))
    assert repr(checkpoint).endswith("tiny.gguf: closed>")
    with shortlist.load(tiny, head="dense", context=64) as model:
        assert repr(model) == f"<Model {tiny}: llama, 2 layers, dense head, context 64>"
        assert re.fullmatch(r"<Tokenizer of \d+ tokens, no chat template>", repr(model.tokenizer))
        assert repr(model.decoder) == "<Decoder of llama, 2 layers>"
        stream = model.stream("the ", max_tokens=2)
        assert repr(stream) == "<Stream of <Generation '': 0 tokens, unfinished>>"
    assert repr(model) == f"<Model {tiny}, closed>"


@pytest.mark.parametrize(("text", "shown"), [("a" * 60, "a" * 60), ("a" * 61, "a" * 60 + "...")])
def test_a_long_text_is_cut_where_it_is_shown(text, shown):
    generation = Generation(stats=None, seed=None, text=text, tokens=[1, 2], finish_reason="length")
    assert repr(generation) == f"<Generation {shown!r}: 2 tokens, length>"


def test_unknown_options_name_the_nearest(tiny):
    with pytest.raises(shortlist.UsageError, match=r"no option contxt \(did you mean context\?\)"):
        shortlist.load(tiny, contxt=64)
    with shortlist.load(tiny, head="dense") as model:
        for use in (model.stream, model.generate):
            with pytest.raises(
                shortlist.UsageError, match=r"no option max_token \(did you mean max_tokens\?\)"
            ):
                use("the ", max_token=2)


def test_weights_of_a_quantized_file_are_refused(tiny, tmp_path):
    with pytest.raises(shortlist.UsageError, match=r"tiny\.gguf is quantized already, so leave it out"):
        shortlist.load(tiny, weights="q8")
    tiny_gguf("qwen3_moe", tmp_path / "moe.gguf", "Q8_0")  # its routers are floats
    with pytest.raises(shortlist.UsageError, match=r"moe\.gguf is quantized already"):
        shortlist.load(tmp_path / "moe.gguf", weights="q4")
    tiny_gguf("llama", tmp_path / "float.gguf")
    with shortlist.load(tmp_path / "float.gguf", weights="q8") as model:
        assert model.decoder.head_rows.format == "q8"


@pytest.mark.parametrize("more", [0, 1])
def test_more_threads_than_cores_are_noted(tiny, more):
    with shortlist.load(tiny, threads=available_threads() + more) as model:
        noted = [note for note in model.warnings if "cores are faster" in note]
        assert len(noted) == more
        assert all(note in model.notes for note in noted)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smollm2", "gemma"])
@pytest.mark.parametrize("options", OPTION_SETS, ids=str)
def test_exact_text_is_the_dense_text_of_real_models(request, name, options):
    path = request.getfixturevalue(name)
    texts = []
    for head in ("dense", "exact"):
        with shortlist.load(path, head=head) as model:
            texts.append(model.generate("The history of", max_tokens=100, seed=11, **options).text)
    assert texts[0] == texts[1]


@pytest.mark.parametrize("progress", [True, False])
def test_the_older_option_progress_is_taken(tmp_path, progress: bool):
    tiny_gguf("llama", tmp_path / "m.gguf")
    shortlist.load(tmp_path / "m.gguf", head="dense", threads=1, progress=progress).close()


def test_what_is_not_taken_as_it_stands_is_a_warning(tmp_path):
    tiny_gguf("llama", tmp_path / "m.gguf", more=lambda writer: writer.add_mask_token_id(5000))
    with shortlist.load(tmp_path / "m.gguf", head="dense", threads=1) as model:
        (warning,) = model.warnings
    assert "mask_token_id is 5000, beyond the 320 tokens: no token is used" in warning
