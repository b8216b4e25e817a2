"""Writes the tokens that models generate to a file, and compares two such files: exactness of a change.

    python benchmarks/same_tokens.py write before.json        # in the environment of one version
    python benchmarks/same_tokens.py write after.json         # in that of the other
    python benchmarks/same_tokens.py compare before.json after.json

12 prompts, greedily and with three settings of sampling, with the dense and the exact head of each model. It
uses the public interface only, so that it runs with any version. `compare` ends with 1 where a token differs.
Within one file, too, the exact head must give the dense head's tokens.
"""

import argparse
import json
from pathlib import Path

import shortlist

MODELS = ("smollm2-135m", "gemma-3-270m")
HEADS = ("dense", "exact")
TOKENS = 64
PROMPTS = (
    "The capital of France is",
    "Once upon a time, in a village by the sea,",
    "def quicksort(values):\n",
    "The three laws of thermodynamics are",
    "Dear Sir or Madam,\n\nI am writing to",
    "1, 1, 2, 3, 5, 8, 13,",
    "Die wichtigsten Städte in Deutschland sind",
    "SELECT name, count(*) FROM orders",
    "Q: Why is the sky blue?\nA:",
    "In 1969, the first humans",
    "<html>\n<head>\n<title>",
    "To bake a simple loaf of bread, you need",
)
SETTINGS = {
    "greedy": {"temperature": 0.0},
    "temperature 1, seed 7": {"temperature": 1.0, "seed": 7},
    "temperature 0.8, top-p 0.9, seed 11": {"temperature": 0.8, "top_p": 0.9, "seed": 11},
    "temperature 1.3, top-k 40, seed 3": {"temperature": 1.3, "top_k": 40, "seed": 3},
}

Texts = dict[str, list[list[int]]]
"""Tokens of each prompt, by model, head and setting."""


def main() -> None:
    """Run one of the two commands."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    write = commands.add_parser("write", help="generate, and write the tokens to a file")
    write.add_argument("file", type=Path)
    write.add_argument("--models", nargs="+", default=MODELS)
    write.add_argument("--prompts", type=int, default=len(PROMPTS), help="only the first so many")
    compare = commands.add_parser("compare", help="compare two files")
    compare.add_argument("files", type=Path, nargs=2)
    arguments = parser.parse_args()
    if arguments.command == "write":
        texts = generate(arguments.models, arguments.prompts)
        arguments.file.write_text(json.dumps(texts))
        raise SystemExit(report(heads_differ(texts)))
    first, second = (json.loads(file.read_text()) for file in arguments.files)
    raise SystemExit(report(differences(first, second)))


def generate(models: list[str], prompts: int) -> Texts:
    """The tokens of every model, head and setting."""
    texts: Texts = {}
    for name in models:
        for head in HEADS:
            with shortlist.load(name, head=head, progress=False) as model:
                for setting, options in SETTINGS.items():
                    key = f"{name} | {head} | {setting}"
                    texts[key] = [tokens(model, prompt, options) for prompt in PROMPTS[:prompts]]
                    print(f"{key}: {sum(map(len, texts[key]))} tokens", flush=True)
    return texts


def tokens(model: shortlist.Model, prompt: str, options: dict) -> list[int]:
    """What follows one prompt, until the text ends or is long enough."""
    stream = model.stream(prompt, max_tokens=TOKENS, **options)
    for _ in stream:
        pass
    return stream.generation.tokens


def differences(first: Texts, second: Texts) -> list[str]:
    """A line for each text that differs, with the first token that does."""
    lines = [f"only in one file: {key}" for key in sorted(first.keys() ^ second.keys())]
    for key in first.keys() & second.keys():
        if len(first[key]) != len(second[key]):
            lines.append(f"{key}: {len(first[key])} prompts in one file, {len(second[key])} in the other")
        for prompt, (one, other) in enumerate(zip(first[key], second[key], strict=False)):
            if one != other:
                same = (a == b for a, b in zip(one, other, strict=False))
                at = next((i for i, equal in enumerate(same) if not equal), min(len(one), len(other)))
                lines.append(f"{key}: prompt {prompt} differs from token {at} on")
    return lines


def heads_differ(texts: Texts) -> list[str]:
    """A line for each text in which the exact head's tokens are not the dense head's."""
    dense = {
        key.replace("| dense |", "| exact |"): value for key, value in texts.items() if "| dense |" in key
    }
    return differences(dense, {key: value for key, value in texts.items() if "| exact |" in key})


def report(lines: list[str]) -> int:
    """Print what differs; 1 where anything does."""
    print("\n".join(lines) or "all tokens are the same")
    return 1 if lines else 0


if __name__ == "__main__":
    main()
