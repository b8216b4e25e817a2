"""CTranslate2 with 8-bit weights."""

import json
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import ctranslate2  # pyright: ignore[reportMissingImports]

from shortlist.peers.base import Peer
from shortlist.peers.convert import converted


class CTranslate2(Peer):
    settings = "int8"

    def __init__(self, path: Path, threads: int):
        folder = converted(path, "ctranslate2", _command)
        self.bytes_per_token = (folder / "model.bin").stat().st_size
        self.generator = ctranslate2.Generator(
            str(folder), device="cpu", compute_type="int8", inter_threads=1, intra_threads=threads
        )
        self.names = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))

    def prefill(self, tokens: Sequence[int]) -> float:
        return self._generate(tokens, 1)

    def decode(self, prompt: Sequence[int], count: int) -> float:
        first = self._generate(prompt, 1)  # the engine repeats the prefill in every call
        return self._generate(prompt, count + 1) - first

    def _generate(self, prompt: Sequence[int], count: int) -> float:
        start = perf_counter()
        self.generator.generate_batch(
            [[self.names[token] for token in prompt]],
            min_length=count,
            max_length=count,
            sampling_topk=1,
            include_prompt_in_result=False,
        )
        return perf_counter() - start


def _command(source: Path, target: Path) -> list[str]:
    module = "ctranslate2.converters.transformers"
    return ["-m", module, "--model", str(source), "--output_dir", str(target), "--quantization", "int8"]
