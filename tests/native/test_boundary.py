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
    given = {"embedding": pack(VOCABULARY, WIDTH), "final_norm": np.ones(WIDTH, np.float32), "norm_eps": 1e-5}
    return _native.Decoder(**{**given, **changes})


def tensors(names: str, changes=()) -> dict:
    """Matrices of these names in their shapes, and those of `changes` instead or beside."""
    found = dict(changes)
    return {**{name: pack(*SHAPES[name]) for name in names.split()}, **found}


def attention(changes=(), vectors=(), **options) -> _native.Attention:
    sizes = {"heads": HEADS, "kv_heads": 1, "head_dim": HEAD_DIM, "scale": 0.2, "norm_eps": 1e-5}
    rope = _native.Rope([1.0] * (HEAD_DIM // 2))
    return _native.Attention(tensors("q k v o", changes), dict(vectors), **{**sizes, "rope": rope, **options})


def ffn(changes=(), vectors=(), **options) -> _native.Ffn:
    return _native.Ffn(tensors("gate up down", changes), dict(vectors), **{"activation": "silu", **options})


def branch(*blocks, norm=True) -> _native.Branch:
    return _native.Branch(
        [(block, None, False) for block in blocks], norm=np.ones(WIDTH, np.float32) if norm else None
    )


def add_layer(decoder: _native.Decoder, *blocks) -> None:
    """A layer of attention and an FFN, or of the blocks that are given in their place."""
    decoder.add_layer([branch(block) for block in blocks or (attention(), ffn())])


def run(decoder: _native.Decoder, count: int = 3) -> np.ndarray:
    tokens = np.arange(count, dtype=np.int32)
    return decoder.forward(tokens, [_native.Cache(decoder, 8)], [count], VOCABULARY)


@pytest.mark.parametrize("name", SHAPES)
def test_a_matrix_by_channel_needs_a_shortlist_of_its_input(name):
    make = attention if name in "qkvo" else ffn
    with pytest.raises(ValueError, match=f"'{name}' lies by channel, and its input has no shortlist"):
        make({name: channels(*SHAPES[name])})


def by_channel(shortlist: _native.ChannelInput, **matrices) -> _native.Attention:
    return attention({"o": channels(*SHAPES["o"]), **matrices}, inputs={"o": shortlist})


def test_a_shortlist_serves_one_input():
    decoder, shared = new_decoder(), _native.ChannelInput(0.0, None, None)
    add_layer(decoder, by_channel(shared), ffn())
    with pytest.raises(ValueError, match="has some already"):
        by_channel(shared)
    assert np.isfinite(run(decoder)).all()


def test_what_a_shortlist_leaves_goes_through_factors_that_fit():
    rest = _native.Channels(pack(32, WIDTH, "q8"))
    for outer in ((32, 32), (WIDTH, 64), None):
        with pytest.raises(ValueError, match="both factors of its low rank"):
            by_channel(
                _native.ChannelInput(0.1, None, rest), **({"o_rest": pack(*outer, "q8")} if outer else {})
            )
    decoder = new_decoder()
    add_layer(decoder, by_channel(_native.ChannelInput(0.1, None, rest), o_rest=pack(WIDTH, 32, "q8")), ffn())
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


@pytest.mark.parametrize("other", [{"hidden": 64}, {"shared": 64}, {"inner": 64}, {"experts": 5}], ids=str)
@pytest.mark.parametrize("first", [0, 1])
def test_mixtures_of_any_sizes_go_together(other, first):
    each = [{"hidden": 32, "shared": 32}, other]
    alone = []
    for options in each:
        decoder = new_decoder()
        add_layer(decoder, attention(), mixture(**options))
        alone.append(run(decoder, 6))
    decoder = new_decoder()
    for options in each[::-1] if first else each:
        add_layer(decoder, mixture(**options))
    together = run(decoder, 6)
    assert np.isfinite(together).all()
    assert not np.array_equal(alone[0], alone[1])


def test_a_layer_that_is_refused_leaves_the_decoder_as_it_was():
    decoder, narrow = new_decoder(), _native.Laurel(pack(8, 32), pack(32, 8))
    with pytest.raises(ValueError, match="a block is of another width than the decoder"):
        add_layer(decoder, attention(), narrow)
    add_layer(decoder)
    assert _native.Cache(decoder, 8).token_bytes == 2 * HEAD_DIM * 2  # keys and values of one layer


@pytest.mark.parametrize("name", SHAPES)
def test_a_matrix_of_another_shape_is_refused(name):
    make = attention if name in "qkvo" else ffn
    rows, cols = SHAPES[name]
    for shape in ((rows + 32, cols), (rows, cols + 32)):
        if name == "up" and shape[0] != rows:
            continue  # the ups say how many neurons there are, and then the others do not fit
        if name == "q" and shape[1] != cols:
            continue  # likewise the queries, of the width
        with pytest.raises(ValueError, match="has the wrong shape"):
            make({name: pack(*shape)})


@pytest.mark.parametrize("name", ["q_norm", "k_norm", "v_norm", "q_bias", "k_bias", "v_bias", "o_bias"])
def test_a_vector_of_another_size_is_refused(name):
    with pytest.raises(ValueError, match=name):
        attention(vectors={name: np.ones(7, np.float32)})


def test_a_name_that_a_block_does_not_have_is_refused():
    for make in (
        lambda: attention({"gate": pack(*SHAPES["gate"])}),
        lambda: attention(vectors={"up_bias": np.ones(FFN, np.float32)}),
        lambda: ffn({"q": pack(*SHAPES["q"])}),
        lambda: ffn(inputs={"qkv": _native.ChannelInput(0.0, None, None)}),
    ):
        with pytest.raises(ValueError, match="is not one of this block"):
            make()


@pytest.mark.parametrize(
    "changes", [{"heads": 0}, {"heads": -2}, {"head_dim": 0}, {"head_dim": 31}, {"kv_heads": 0}]
)
def test_sizes_out_of_range_are_refused(changes):
    with pytest.raises(ValueError, match=r"heads|RoPE"):
        attention(**changes)


def test_a_negative_window_and_a_table_larger_than_a_head_are_refused():
    with pytest.raises(ValueError, match="a window is negative"):
        attention(window=-1)
    with pytest.raises(ValueError, match="a RoPE table is larger than a head"):
        attention(rope=_native.Rope([1.0] * (HEAD_DIM // 2 + 1)))
    with pytest.raises(ValueError, match="at least one frequency"):
        _native.Rope([])


def test_a_block_is_part_of_one_layer():
    decoder, block, other = new_decoder(), attention(), ffn()
    with pytest.raises(ValueError, match="a block comes twice"):
        add_layer(decoder, block, block)
    add_layer(decoder, block, other)
    for again in (decoder, new_decoder()):
        with pytest.raises(ValueError, match="this one has a layer already"):
            add_layer(again, block)
    assert np.isfinite(run(decoder)).all()


def test_keys_and_values_are_those_of_an_earlier_layer_of_the_same_decoder():
    decoder, first = new_decoder(), attention()
    queries = {name: pack(*SHAPES[name]) for name in ("q", "o")}

    def reading(source):
        sizes = {"heads": HEADS, "kv_heads": 1, "head_dim": HEAD_DIM, "scale": 0.2, "norm_eps": 1e-5}
        return _native.Attention(queries, {}, source=source, **sizes)

    with pytest.raises(ValueError, match="must name one before it"):
        add_layer(decoder, reading(first))
    add_layer(decoder, first)
    add_layer(decoder, reading(first))
    with pytest.raises(ValueError, match="must name one before it"):
        add_layer(new_decoder(), reading(first))
    with pytest.raises(ValueError, match="must name one before it that has them"):
        reading(reading(first))
    assert _native.Cache(decoder, 8).token_bytes == 2 * HEAD_DIM * 2
    assert np.isfinite(run(decoder)).all()


def test_angles_belong_to_one_decoder():
    rope = _native.Rope([1.0] * (HEAD_DIM // 2))
    add_layer(new_decoder(), attention(rope=rope))
    other = new_decoder()
    with pytest.raises(ValueError, match="belongs to one decoder"):
        add_layer(other, attention(rope=rope))


def test_a_layer_needs_branches_and_a_branch_blocks():
    decoder = new_decoder()
    with pytest.raises(ValueError, match="a layer needs a branch"):
        decoder.add_layer([])
    with pytest.raises(ValueError, match="a branch needs a block"):
        decoder.add_layer([branch()])
    with pytest.raises(ValueError, match="norm"):
        decoder.add_layer([_native.Branch([(ffn(), None, False)], norm=np.ones(WIDTH - 1, np.float32))])
    with pytest.raises(ValueError, match="norm of an output"):
        decoder.add_layer([_native.Branch([(ffn(), np.ones(WIDTH - 1, np.float32), False)])])


def test_a_branch_scales_what_it_adds():
    def hidden(**options):
        decoder = new_decoder()
        decoder.add_layer(
            [_native.Branch([(ffn(), None, False)], norm=np.ones(WIDTH, np.float32), **options)]
        )
        return run(decoder)

    nothing = new_decoder()
    nothing.add_layer([_native.Branch([(ffn(), np.zeros(WIDTH, np.float32), False)])])
    assert np.array_equal(hidden(scale=0.0), run(nothing))
    assert not np.array_equal(hidden(scale=0.5), hidden())
    # The last norm takes a common factor away, up to its epsilon.
    np.testing.assert_allclose(hidden(sum_scale=0.5), hidden(), rtol=1e-3)


def test_nothing_stands_in_for_a_matrix():
    for make in (
        lambda: _native.Head(None),
        lambda: _native.LowRank(None, None, np.ones(3, np.float32)),
        lambda: _native.compute_each([None], np.ones((1, 64), np.float32), np.zeros((1, 1), np.int32), 1),
        lambda: _native.Cache(None, 8),
        lambda: new_decoder().forward(np.zeros(1, np.int32), [None], [1], VOCABULARY),
        lambda: new_decoder(embedding=None),
        lambda: new_decoder().add_layer([None]),
        lambda: new_decoder().add_layer([_native.Branch([(None, None, False)])]),
        lambda: _native.SharedRouter(*[None] * 6),
        lambda: _native.Laurel(None, None),
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
    add_layer(decoder, by_channel(recorded), ffn())
    recorded.record()
    run(decoder, 3)
    assert recorded.recorded().shape == (3, WIDTH)
    run(decoder, 3)
    assert recorded.recorded().shape == (0, WIDTH)
