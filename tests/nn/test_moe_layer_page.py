"""The examples of docs/moe-layer.md run, one after the other."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "moe-layer.md"


def test_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(examples) == 5
    names: dict = {}
    for example in examples:
        exec(example, names)
    assert names["moe"].routing.load.sum() == 20
    assert (tmp_path / "quantized.safetensors").stat().st_size > 0
    assert names["again"].config.quantization_config.bits == 8
