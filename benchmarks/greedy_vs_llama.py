"""Greedy text of shortlist and of llama.cpp on the same GGUF file: how many of 20 prompts agree.

    python benchmarks/greedy_vs_llama.py smollm2-135m gemma-3-270m

Both engines round activations to int8 alike, but add in another order. Where the last bit of a sum moves
a rounding, the change grows from layer to layer, and logits end up a tenth or so apart. Each difference is
therefore shown with the lead of each engine's choice in its own logits: a lead below that noise is a tie.
Beside it llama.cpp is compared with itself, with flash attention on and off, which changes nothing but the
order and precision of its attention sums.
"""

import argparse

import numpy as np

from shortlist.checkpoints import open_checkpoint, resolve
from shortlist.model.decoder import Decoder
from shortlist.model.tokenizer.tokenizer import Tokenizer
from shortlist.sites.head import Head

TOKENS = 64
PROMPTS = (
    "The capital of France is",
    "Once upon a time there was a small",
    "The first law of thermodynamics states that",
    "def fibonacci(n):\n",
    "In 1969, the Apollo 11 mission",
    "Photosynthesis is the process by which",
    "The most important thing to remember about cooking rice is",
    "Dear Sir or Madam,\n\nI am writing to",
    "1, 2, 3, 5, 8, 13,",
    "The Roman Empire fell because",
    "To install the package, run the following command:",
    "She opened the door and saw",
    "Water boils at a temperature of",
    "The difference between a cat and a dog is",
    "Albert Einstein was born in",
    "A list of healthy breakfast foods:\n-",
    "The stock market is a place where",
    "Shakespeare wrote many plays, including",
    "In computer science, a hash table is",
    "The weather today is",
)


def main() -> None:
    """Print one line per prompt that differs, and the count of those that do not."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    for name in arguments.models:
        compare(name, arguments.threads)


def compare(name: str, threads: int) -> None:
    """One model, all prompts."""
    from llama_cpp import Llama  # pyright: ignore[reportMissingImports]

    path = resolve(name)
    llama = Llama(str(path), n_ctx=256, n_threads=threads, verbose=False)
    flash = Llama(str(path), n_ctx=256, n_threads=threads, verbose=False, flash_attn=True)
    with open_checkpoint(path) as checkpoint:
        decoder, tokenizer = Decoder(checkpoint, threads=threads), Tokenizer.from_checkpoint(checkpoint)
    head = Head(decoder.head_rows)
    equal = itself = 0
    for prompt in PROMPTS:
        tokens = tokenizer.encode(prompt)
        ours, ours_logits = greedy(decoder, head, tokens)
        theirs, theirs_logits = llama_greedy(llama, tokens)
        itself += llama_greedy(flash, tokens)[0] == theirs
        same = next((i for i in range(TOKENS) if ours[i] != theirs[i]), TOKENS)
        equal += same == TOKENS
        if same < TOKENS:
            a, b = ours[same], theirs[same]
            gap = ours_logits[same][a] - ours_logits[same][b]
            their_gap = theirs_logits[same][b] - theirs_logits[same][a]
            noise = np.abs(ours_logits[same] - theirs_logits[same]).mean()
            print(
                f"{name}, {prompt!r}, token {same}: {tokenizer.decode([a])!r} leads by {gap:.3f} here, "
                f"{tokenizer.decode([b])!r} by {their_gap:.3f} in llama.cpp; mean difference {noise:.3f}"
            )
    print(
        f"{name}: {equal} of {len(PROMPTS)} prompts equal for {TOKENS} tokens (target: 18); "
        f"llama.cpp with and without flash attention: {itself} of {len(PROMPTS)}"
    )


def greedy(decoder: Decoder, head: Head, tokens: list[int]) -> tuple[list[int], list[np.ndarray]]:
    """The next tokens and the logits that chose them."""
    cache = decoder.new_cache(len(tokens) + TOKENS)
    chosen, logits = [], []
    hidden = decoder.forward(np.array(tokens), cache)[-1]
    while True:
        logits.append(head.logits(hidden)[0])
        chosen.append(int(logits[-1].argmax()))
        if len(chosen) == TOKENS:
            return chosen, logits
        hidden = decoder.forward(np.array(chosen[-1:]), cache)[-1]


def llama_greedy(llama, tokens: list[int]) -> tuple[list[int], list[np.ndarray]]:
    """The same from llama.cpp."""
    import llama_cpp  # pyright: ignore[reportMissingImports]

    llama.reset()
    llama.eval(tokens)
    chosen, logits = [], []
    while True:
        values = llama_cpp.llama_get_logits_ith(llama.ctx, -1)
        logits.append(np.ctypeslib.as_array(values, (llama.n_vocab(),)).copy())
        chosen.append(int(logits[-1].argmax()))
        if len(chosen) == TOKENS:
            return chosen, logits
        llama.eval(chosen[-1:])


if __name__ == "__main__":
    main()
