"""What Python hands over is checked where it arrives: sizes against each other, and what belongs together."""

import threading

import numpy as np
import pytest

from shortlist import _native

WIDTH, HEADS, HEAD_DIM, FFN, VOCABULARY = 64, 2, 32, 96, 40
SHAPES = {
    "q": (WIDTH, WIDTH),
    "k": (HEAD_DIM, WIDTH),
    "v": (HEAD_DIM, WIDTH),
    "o": (WIDTH, WIDTH),
    "gate": (FFN, WIDTH),
    "up": (FFN, WIDTH),
    "down": (WIDTH, FFN),
}


def pack(rows: int, cols: int, format: str = "", tiled: bool = False) -> _native.Rows:
    values = np.random.default_rng(rows * cols).normal(0, 0.1, (rows, cols)).astype(np.float32)
    return _native.Rows.pack(values.view(np.uint8).reshape(-1), "F32", rows, cols, format, tiled=tiled)


def channels(rows: int, cols: int) -> _native.Channels:
    return _native.Channels(pack(rows, cols, "q8"))


def new_decoder(**changes) -> _native.Decoder:
    sizes = {"width": WIDTH, "heads": HEADS, "kv_heads": 1, "head_dim": HEAD_DIM, "ffn_width": FFN}
    return _native.Decoder(
        **{**sizes, **changes},
        norm_eps=1e-5,
        embedding_scale=1.0,
        attention_scale=0.2,
        activation="silu",
        rope=[[1.0] * (HEAD_DIM // 2)],
        rope_scales=[1.0],
        embedding=pack(VOCABULARY, WIDTH),
        final_norm=np.ones(WIDTH, np.float32),
    )


def add_layer(decoder: _native.Decoder, matrices=(), without=(), **options) -> None:
    every = {name: pack(*shape) for name, shape in SHAPES.items() if name not in without}
    norms = {name: np.ones(WIDTH, np.float32) for name in ("attention_norm", "ffn_norm")}
    decoder.add_layer({**every, **dict(matrices)}, norms, **{"window": 0, "rope_table": 0, **options})


def run(decoder: _native.Decoder, count: int = 3) -> np.ndarray:
    tokens = np.arange(count, dtype=np.int32)
    return decoder.forward(tokens, [_native.Cache(decoder, 8)], [count], VOCABULARY)


@pytest.mark.parametrize("name", SHAPES)
def test_a_matrix_by_channel_needs_a_shortlist_of_its_input(name):
    with pytest.raises(ValueError, match=f"'{name}' lies by channel, and its input has no shortlist"):
        add_layer(new_decoder(), {name: channels(*SHAPES[name])})


def test_a_shortlist_serves_one_input():
    decoder, shared = new_decoder(), _native.ChannelInput(0.0, None, None)
    add_layer(decoder, {"o": channels(*SHAPES["o"])}, inputs={"o": shared})
    with pytest.raises(ValueError, match="has some already"):
        add_layer(decoder, {"o": channels(*SHAPES["o"])}, inputs={"o": shared})
    assert np.isfinite(run(decoder)).all()


def test_what_a_shortlist_leaves_goes_through_factors_that_fit():
    rest = _native.Channels(pack(32, WIDTH, "q8"))
    for outer in ((32, 32), (WIDTH, 64), None):
        matrices = {"o": channels(*SHAPES["o"])} | ({"o_rest": pack(*outer, "q8")} if outer else {})
        with pytest.raises(ValueError, match="both factors of its low rank"):
            add_layer(new_decoder(), matrices, inputs={"o": _native.ChannelInput(0.1, None, rest)})
    decoder = new_decoder()
    matrices = {"o": channels(*SHAPES["o"]), "o_rest": pack(WIDTH, 32, "q8")}
    add_layer(decoder, matrices, inputs={"o": _native.ChannelInput(0.1, None, rest)})
    assert np.isfinite(run(decoder)).all()


def mixture(hidden: int = 32, shared: int | None = None, inner: int | None = None, experts: int = 3):
    def block(width):
        return pack(width, WIDTH), pack(width, WIDTH), pack(WIDTH, width)

    return _native.Mixture(
        router=pack(experts, inner or WIDTH),
        experts=[block(hidden) for _ in range(experts)],
        per_token=2,
        activation="silu",
        shared=block(shared) if shared else None,
        router_hidden=pack(inner, WIDTH) if inner else None,
    )


FFN_PARTS = ("gate", "up", "down")


@pytest.mark.parametrize(
    ("one", "other"), [({}, {"hidden": 64}), ({"shared": 32}, {"shared": 64}), ({"inner": 32}, {"inner": 64})]
)
def test_mixtures_of_one_decoder_share_their_scratch(one, other):
    decoder = new_decoder()
    add_layer(decoder, without=FFN_PARTS, mixture=mixture(**one))
    with pytest.raises(ValueError, match="of the same widths"):
        add_layer(decoder, without=FFN_PARTS, mixture=mixture(**other))
    add_layer(decoder, without=FFN_PARTS, mixture=mixture(**one, experts=5))
    assert np.isfinite(run(decoder)).all()


@pytest.mark.parametrize("parts", [{"shared": 64}, {"inner": 64}])
@pytest.mark.parametrize("first", [0, 1])
def test_mixtures_with_and_without_a_part_go_together(parts, first):
    decoder = new_decoder()
    for options in [{}, parts] if first else [parts, {}]:
        add_layer(decoder, without=FFN_PARTS, mixture=mixture(**options))
    assert np.isfinite(run(decoder, 6)).all()


def test_a_layer_that_is_refused_leaves_the_decoder_as_it_was():
    decoder = new_decoder()
    with pytest.raises(ValueError, match="'down' has the wrong shape"):
        add_layer(decoder, {"down": pack(WIDTH, WIDTH)})
    add_layer(decoder)
    assert _native.Cache(decoder, 8).token_bytes == 2 * HEAD_DIM * 2  # keys and values of one layer


@pytest.mark.parametrize(
    "changes", [{"heads": 0}, {"heads": -2}, {"head_dim": 0}, {"head_dim": 31}, {"kv_heads": 0}]
)
def test_sizes_out_of_range_are_refused(changes):
    with pytest.raises(ValueError, match=r"heads|RoPE"):
        new_decoder(**changes)


def test_a_negative_window_and_streams_without_a_decoder_of_streams_are_refused():
    with pytest.raises(ValueError, match="a window is negative"):
        add_layer(new_decoder(), window=-1)
    decoder, norm = new_decoder(), np.ones(WIDTH, np.float32)
    every = {name: pack(*shape) for name, shape in SHAPES.items()}
    vectors = {"attention_norm": norm, "ffn_norm": norm, "altup_router": norm}
    with pytest.raises(ValueError, match="the decoder has none"):
        decoder.add_layer(every, vectors, window=0, rope_table=0)


def test_nothing_stands_in_for_a_matrix():
    for make in (
        lambda: _native.Head(None),
        lambda: _native.LowRank(None, None, np.ones(3, np.float32)),
        lambda: _native.compute_each([None], np.ones((1, 64), np.float32), np.zeros((1, 1), np.int32), 1),
        lambda: _native.Cache(None, 8),
        lambda: new_decoder().forward(np.zeros(1, np.int32), [None], [1], VOCABULARY),
        lambda: new_decoder().set_shared_router(None, *[None] * 5),
        lambda: _native.Vocabulary(None),
    ):
        with pytest.raises((TypeError, ValueError)):
            make()


def test_a_scale_is_for_sums():
    weights, x, out = (np.ones(shape, np.float32) for shape in ((1, 4, 4), (2, 4), (2, 4)))
    with pytest.raises(ValueError, match="scale is for what is added"):
        _native.grouped_product(weights, x, np.array([2]), out, scale=np.ones(2, np.float32))


def test_a_piece_for_what_is_unknown_is_in_the_vocabulary():
    vocabulary, scores = _native.Vocabulary(_native.Strings(["a", "b"])), np.zeros(2, np.float32)
    for unknown in (-2, 2):
        with pytest.raises(ValueError, match="not in the vocabulary"):
            _native.Bpe.from_scores(vocabulary, scores, unknown)
    assert _native.Bpe.from_scores(vocabulary, scores, 1).encode(["c"]) == [1]


def test_a_packer_ends_once():
    packer = _native.Packer("F32", 2, 64)
    packer.add(np.ones(2 * 64, np.float32).view(np.uint8))
    assert packer.finish().rows == 2
    with pytest.raises(ValueError, match="wrong size"):
        packer.finish()
    with pytest.raises(ValueError, match="wrong size"):
        packer.add(np.ones(64, np.float32).view(np.uint8))


def test_threads_that_pack_together_pack_every_row_once():
    packer, row = _native.Packer("F32", 400, 64), np.ones(64, np.float32).view(np.uint8)
    errors = []

    def work():
        try:
            for _ in range(100):
                packer.add(row)
        except ValueError as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    rows = packer.finish()
    assert (rows.unpack(np.arange(400, dtype=np.int32)) == 1).all()


def test_inputs_are_recorded_while_a_decoder_works():
    decoder, recorded = new_decoder(), _native.ChannelInput(0.0, None, None)
    add_layer(decoder, {"o": channels(*SHAPES["o"])}, inputs={"o": recorded})
    recorded.record()
    run(decoder, 3)
    assert recorded.recorded().shape == (3, WIDTH)
    run(decoder, 3)
    assert recorded.recorded().shape == (0, WIDTH)
