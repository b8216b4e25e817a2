"""smollm3: which layers have no RoPE."""

import json

import pytest
from builders import tiny_gguf, tiny_hf

from shortlist.checkpoints import open_checkpoint
from shortlist.errors import CheckpointError


def turning(path):
    with open_checkpoint(path) as checkpoint:
        return [bool(each) for each in checkpoint.config.rope_frequencies]


def changed(folder, **values):
    tiny_hf("smollm3", folder)
    path = folder / "config.json"
    config = {name: v for name, v in json.loads(path.read_text()).items() if name != "no_rope_layers"}
    path.write_text(json.dumps(config | values))


def test_every_fourth_layer_of_a_gguf_file(tmp_path):
    tiny_gguf("smollm3", tmp_path / "m.gguf")
    assert turning(tmp_path / "m.gguf") == [True, True, True, False, True]


def test_a_folder_lists_them_or_says_how_often(tmp_path):
    changed(tmp_path / "a")
    assert turning(tmp_path / "a") == [True, True, True, False, True]
    changed(tmp_path / "b", no_rope_layer_interval=2)
    assert turning(tmp_path / "b") == [True, False, True, False, True]
    changed(tmp_path / "c", no_rope_layers=[0, 1, 1, 0, 1])
    assert turning(tmp_path / "c") == [False, True, True, False, True]


@pytest.mark.parametrize("value", [[1, 1], [1, 1, 1, 2, 1], [True] * 5, "none"])
def test_other_lists_are_refused(tmp_path, value):
    changed(tmp_path, no_rope_layers=value)
    with pytest.raises(CheckpointError, match="no_rope_layers must be 0 or 1 for each of 5 layers"):
        open_checkpoint(tmp_path)


def test_windows_are_refused(tmp_path):
    changed(tmp_path, use_sliding_window=True, sliding_window=8)
    with pytest.raises(CheckpointError, match="use_sliding_window is True, which is not supported"):
        open_checkpoint(tmp_path)
