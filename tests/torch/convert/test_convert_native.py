"""The speed at which the native runtime decodes a folder."""

import torch
from builders import tiny_hf

import shortlist
from shortlist.torch.convert.native import PROMPT, native_speed


def test_a_model_that_ends_every_text_at_once_has_a_speed(tmp_path):
    model = tiny_hf("llama", tmp_path)
    with torch.no_grad():
        model.model.embed_tokens.weight[:] = model.model.embed_tokens.weight[0]  # one state for all texts
        state = model.model(torch.tensor([[0]])).last_hidden_state[0, 0]
        model.lm_head.weight.zero_()[model.config.eos_token_id] = state
    model.save_pretrained(tmp_path)
    with shortlist.load(tmp_path, head="dense", threads=1) as loaded:
        assert loaded.generate(PROMPT, max_tokens=8).stats.decode_tokens_per_s is None
    speed, note = native_speed(tmp_path, threads=1)
    assert speed is not None
    assert speed > 1
    assert note == ""


def test_a_folder_that_cannot_be_read_says_why(tmp_path):
    speed, note = native_speed(tmp_path)
    assert speed is None
    assert str(tmp_path) in note
