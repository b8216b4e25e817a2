"""ONNX Runtime GenAI with 4-bit weights."""

import json
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import onnxruntime_genai  # pyright: ignore[reportMissingImports]

from shortlist.peers.base import Peer
from shortlist.peers.convert import converted


class OnnxRuntimeGenAI(Peer):
    settings = "int4"

    def __init__(self, path: Path, threads: int):
        folder = converted(path, "onnxruntime-genai", _command)
        # A tied head reads the whole embedding; a separate embedding is read by one row.
        self.bytes_per_token = (folder / "model.onnx.data").stat().st_size
        config = onnxruntime_genai.Config(str(folder))
        session_options = {"intra_op_num_threads": threads}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": session_options}}}))
        self.model = onnxruntime_genai.Model(config)

    def prefill(self, tokens: Sequence[int]) -> float:
        generator = self._generator(len(tokens) + 1)
        start = perf_counter()
        generator.append_tokens(list(tokens))
        generator.generate_next_token()
        return perf_counter() - start

    def decode(self, prompt: Sequence[int], count: int) -> float:
        generator = self._generator(len(prompt) + count + 1)
        generator.append_tokens(list(prompt))
        generator.generate_next_token()
        start = perf_counter()
        for _ in range(count):
            generator.generate_next_token()
        return perf_counter() - start

    def _generator(self, length: int) -> onnxruntime_genai.Generator:
        parameters = onnxruntime_genai.GeneratorParams(self.model)
        parameters.set_search_options(do_sample=False, min_length=length, max_length=length)
        return onnxruntime_genai.Generator(self.model, parameters)


def _command(source: Path, target: Path) -> list[str]:
    module = "onnxruntime_genai.models.builder"
    folders = ["-i", str(source), "-o", str(target), "-c", str(target.parent / "cache")]
    return ["-m", module, *folders, "-p", "int4", "-e", "cpu"]
