"""Quality claims: the estimated and the exact head against the dense one on a text, for two models.

The claims are about the second half of the validation split of WikiText-2, 8,192 tokens of it, which is not
carried here. Prints Markdown for the documentation.

    .venv/bin/python benchmarks/quality.py wikitext2-valid.txt [--tokens 8192]
"""

import argparse
from pathlib import Path

import shortlist
from shortlist.engine.choose_head import HeadName
from shortlist.fit import fit
from shortlist.measure.quality import compare
from shortlist.measure.teacher_forced import windows
from shortlist.sites.head import Head

HEADS: tuple[HeadName, ...] = ("estimated", "exact")
MODELS = ("smollm2-135m", "gemma-3-270m")
HEADINGS = (
    "agreement",
    "perplexity change",
    "perplexity",
    "head rows read",
    "MB per token",
    "total variation",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("text", type=Path, help="its second half is used: fit recipes on other text")
    parser.add_argument("--tokens", type=int, default=8192)
    arguments = parser.parse_args()
    text = arguments.text.read_text(encoding="utf-8")
    print(f"| model, head | {' | '.join(HEADINGS)} |\n|{' --- |' * (len(HEADINGS) + 1)}")
    for model in MODELS:
        shortlist.pull(model, progress=True)
        fit(model, again=False)
        for head in HEADS:
            print_row(model, head, text[len(text) // 2 :], arguments.tokens)


def print_row(model: str, head: HeadName, text: str, count: int) -> None:
    with shortlist.load(model, head=head) as loaded:
        tokens = loaded.tokenizer.encode(text, add_special=False)[:count]
        batches = windows(loaded.decoder, tokens, loaded.tokenizer.encode(""))
        dense = Head(loaded.decoder.head_rows)
        cost = compare(batches, dense, loaded.head, loaded.decoder.layer_bytes).shortlisted
    figures = (
        f"{cost.agreement:.3%}",
        f"{cost.perplexity_change:+.4%} ± {cost.perplexity_change_error:.4%}",
        f"{cost.perplexity:.4f}",
        f"{cost.rows_share:.2%}",
        f"{cost.bytes_per_token / 1e6:.1f}",
        f"{cost.total_variation:.1e}",
    )
    print(f"| {model}, {head} | {' | '.join(figures)} |", flush=True)


if __name__ == "__main__":
    main()
