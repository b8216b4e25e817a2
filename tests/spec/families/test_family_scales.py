"""granite: the four scales in both formats, where a file leaves them out, and what is refused."""

import json

import pytest
from builders import tiny_gguf, tiny_hf

from shortlist.checkpoints import open_checkpoint
from shortlist.errors import CheckpointError
from shortlist.spec.families.granite import FAMILY, gguf_own
from shortlist.spec.settings import Settings


@pytest.fixture
def config(tmp_path):
    tiny_hf("llama", tmp_path / "llama")
    with open_checkpoint(tmp_path / "llama") as checkpoint:
        yield checkpoint.config


def test_scales_of_a_folder(tmp_path):
    tiny_hf("granite", tmp_path)
    with open_checkpoint(tmp_path) as checkpoint:
        scales = checkpoint.config
    assert (scales.embedding_scale, scales.attention_scale, scales.residual_scale) == (3.0, 0.5, 0.25)
    assert scales.logit_scale == 1 / 2.5


def test_scales_that_a_folder_leaves_out_are_1(tmp_path):
    tiny_hf("granite", tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    for name in ("embedding_multiplier", "attention_multiplier", "residual_multiplier", "logits_scaling"):
        del config[name]
    path.write_text(json.dumps(config))
    with open_checkpoint(tmp_path) as checkpoint:
        c = checkpoint.config
    assert (c.embedding_scale, c.attention_scale, c.residual_scale, c.logit_scale) == (1, 1, 1, 1)


def test_zeros_of_a_gguf_file_are_no_scales(tmp_path, config):
    names = ("embedding_scale", "attention.scale", "residual_scale", "logit_scale")
    scaled = gguf_own(Settings(tmp_path, dict.fromkeys(names, 0.0)), config, {})
    assert scaled == config
    assert scaled.attention_scale == 16**-0.5


def test_a_gguf_file_says_how_logits_are_scaled(tmp_path, config):
    with pytest.raises(CheckpointError, match="logit_scale is missing"):
        gguf_own(Settings(tmp_path, {}), config, {})


def test_a_gguf_file_that_turns_rope_off_is_refused(tmp_path):
    tiny_gguf(FAMILY.name, tmp_path / "m.gguf", more=lambda w: w.add_rope_scaling_finetuned(False))
    with pytest.raises(CheckpointError, match=r"granite\.rope\.scaling\.finetuned is False"):
        open_checkpoint(tmp_path / "m.gguf")
