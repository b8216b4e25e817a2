"""How much faster gemma3n decodes when its sparse layers read only the neurons above their cutoff.

A model of half the depth of Gemma 3n E2B (15 layers, of which the first third is sparse at 0.95 and the last
third shares keys and values, as there) and a vocabulary of 32,768, with random 8-bit weights: random gates
are normal, so one in twenty lies above the cutoff without being planted. Dense and exact take turns on the
same random tokens, dense head included; medians of the rounds. Needs 5 GB of memory, 3 GB of disk for a
while, and 2 cores that have nothing else to do. Prints Markdown.

    python benchmarks/gemma3n_skipping.py [--threads N] [--rounds N]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np

from shortlist import _native, checkpoints
from shortlist.measure.synthetic import random_rows
from shortlist.model.decoder import Decoder
from shortlist.sites.head import Head

MODES = ("dense", "exact")
PROMPT, STEPS = 16, 32
LAYERS, SPARSE, SHARED = 15, 5, 5
WIDTH, FFN, HEADS, KV_HEADS, HEAD_DIM = 2048, 8192, 8, 2, 256
STREAMS, INPUT, RANK, VOCABULARY = 4, 256, 64, 32_768
Q8_0 = gguf.GGMLQuantizationType.Q8_0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    decoders = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "gemma3n.gguf")
        write(path)
        for mode in MODES:
            with checkpoints.open_checkpoint(path) as checkpoint:
                decoders[mode] = Decoder(checkpoint, ffn=mode, threads=arguments.threads)
    speeds = measure(decoders, arguments.rounds)
    exact = decoders["exact"]
    read = exact.neurons_read / (arguments.rounds * (PROMPT + STEPS) * exact.listable_neurons)
    print("| | tokens/s | layer bytes per token | GB/s |\n| --- | --- | --- | --- |")
    for mode, decoder in decoders.items():
        moved = speeds[mode] * (decoder.layer_bytes + decoder.head_rows.nbytes) / 1e9
        print(f"| {mode} | {speeds[mode]:.1f} | {decoder.layer_bytes / 1e6:.0f} MB | {moved:.1f} |")
    ratio, reach = speeds["exact"] / speeds["dense"], _native.read_bandwidth_gb_s(256, 3)
    print(f"\n{ratio:.2f}x with {read:.1%} of the neurons of {SPARSE} of {LAYERS} layers")
    print(f"{_native.isa()}, {_native.threads()} threads, reads reach {reach:.1f} GB/s")


def measure(decoders: dict[str, Decoder], rounds: int) -> dict[str, float]:
    """Tokens per second of each: medians of the rounds."""
    speeds = {mode: [] for mode in decoders}
    for seed in range(rounds):
        tokens = np.random.default_rng(seed).integers(0, VOCABULARY, PROMPT + STEPS).astype(np.int32)
        for mode, decoder in decoders.items():
            head, cache = Head(decoder.head_rows), decoder.new_cache(PROMPT + STEPS)
            decoder.forward(tokens[:PROMPT], cache)
            start = time.perf_counter()
            for token in np.split(tokens[PROMPT:], STEPS):
                head.argmax(decoder.forward(token, cache)[0])
            speeds[mode].append(STEPS / (time.perf_counter() - start))
    return {mode: statistics.median(each) for mode, each in speeds.items()}


def matrices() -> Iterator[tuple[str, int, int]]:
    """Name, rows and columns of every matrix in 8 bits."""
    yield "token_embd", VOCABULARY, WIDTH
    yield "per_layer_token_embd", VOCABULARY, LAYERS * INPUT
    yield "per_layer_model_proj", LAYERS * INPUT, WIDTH
    for layer in range(LAYERS):
        for name, rows, columns in (
            ("attn_q", HEADS * HEAD_DIM, WIDTH),
            ("attn_k", KV_HEADS * HEAD_DIM, WIDTH),
            ("attn_v", KV_HEADS * HEAD_DIM, WIDTH),
            ("attn_output", WIDTH, HEADS * HEAD_DIM),
            ("ffn_gate", FFN, WIDTH),
            ("ffn_up", FFN, WIDTH),
            ("ffn_down", WIDTH, FFN),
            ("laurel_l", RANK, WIDTH),
            ("laurel_r", WIDTH, RANK),
            ("inp_gate", INPUT, WIDTH),
            ("proj", WIDTH, INPUT),
        ):
            yield f"blk.{layer}.{name}", rows, columns


def float_tensors(random: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    """Norms, nearly all of them ones, and the coefficients of the streams."""
    norms = ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm", "post_norm")
    norms += ("laurel_post_norm", "altup_router_norm", "altup_correct_scale")
    for layer in range(LAYERS):
        yield from ((f"blk.{layer}.{name}", np.ones(WIDTH)) for name in norms)
        yield from ((f"blk.{layer}.attn_{name}_norm", np.full(HEAD_DIM, HEAD_DIM**-0.25)) for name in "qk")
        yield f"blk.{layer}.altup_router", random.normal(size=(STREAMS, WIDTH)) * WIDTH**0.5
        yield f"blk.{layer}.altup_predict_coef", random.normal(size=(STREAMS**2, STREAMS)) * 0.1
        yield f"blk.{layer}.altup_correct_coef", random.normal(size=(STREAMS, STREAMS)) * 0.1
    yield "output_norm", np.ones(WIDTH)
    yield "per_layer_proj_norm", np.ones(INPUT)


def write(path: Path) -> None:
    """Write the model, a matrix at a time."""
    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "gemma3n", use_temp_file=True)
    writer.add_context_length(4096)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length([FFN] * LAYERS)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD_DIM)
    writer.add_value_length(HEAD_DIM)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    writer.add_sliding_window(512)
    writer.add_sliding_window_pattern([i % 5 != 4 for i in range(LAYERS)])
    writer.add_shared_kv_layers(SHARED)
    writer.add_altup_active_idx(0)
    writer.add_altup_num_inputs(STREAMS)
    writer.add_embedding_length_per_layer_input(INPUT)
    cutoff = statistics.NormalDist().inv_cdf(0.95)
    writer.add_activation_sparsity_scale([cutoff] * SPARSE + [float("-inf")] * (LAYERS - SPARSE))
    for name, values in float_tensors(random):
        writer.add_tensor(f"{name}.weight", values.astype(np.float32))
    for name in ("altup_proj", "altup_unembd_proj"):
        stack = random_rows(random, (STREAMS - 1) * WIDTH, WIDTH, Q8_0).reshape(STREAMS - 1, WIDTH, -1)
        writer.add_tensor(f"{name}.weight", stack, raw_dtype=Q8_0)
    for name, rows, columns in matrices():
        writer.add_tensor(f"{name}.weight", random_rows(random, rows, columns, Q8_0), raw_dtype=Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
