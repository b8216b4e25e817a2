"""Configurations of training, and the files that hold them."""

import pytest

from shortlist.errors import UsageError
from shortlist.training.config import Config, DataConfig, GateConfig, MoEConfig, config_json, read_config

SMALL = """
[data]
text = ["a.txt"]
[model]
hidden_size = 32
rope_theta = 100.0
[moe]
experts = [2, 0]
gate = {kind = "softmax", k = 1}
losses.load_balance = 0.1
[training]
learning_rate = 1
"""


@pytest.fixture
def written(tmp_path):
    def write(text, name="c.toml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_a_file_is_read_with_all_that_it_leaves_out(written, tmp_path):
    config = read_config(written(SMALL))
    assert config.data == DataConfig((str(tmp_path / "a.txt"),))
    assert config.model.options == {"rope_theta": 100.0}
    assert config.moe == MoEConfig(
        (2, 0), gate=GateConfig("softmax", options={"k": 1}), losses={"load_balance": 0.1}
    )
    assert config.training.learning_rate == 1.0
    assert config.training.steps == 1000


def test_a_run_keeps_the_same_configuration(written, tmp_path):
    config = read_config(written(SMALL))
    path = tmp_path / "elsewhere" / "training.json"
    path.parent.mkdir()
    path.write_text(config_json(config))
    assert read_config(path) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[data", "cannot be read: Expected ']'"),
        ("", "data is missing: a table is needed there"),
        ("[data]\ntext = []", "data.text names no file"),
        ('[data]\ntext = ["a"]\nvocabulary = 3', "data.vocabulary must be from 257"),
        ('[data]\ntext = ["a"]\n[training]\nlearning_rat = 3', "did you mean learning_rate?"),
        (
            '[data]\ntext = ["a"]\n[training]\nsteps = "many"',
            "training.steps must be a whole number, not 'many'",
        ),
        ('[data]\ntext = ["a"]\n[training]\nbatch = 0', "training.batch must be at least 1, not 0"),
        ('[data]\ntext = ["a"]\n[trainin]', "trainin is not a key that is known: did you mean training?"),
        ('[data]\ntext = ["a"]\n[model]\nhidden_size = 30', "hidden_size, 30, must be a multiple of"),
        (
            '[data]\ntext = ["a"]\n[model]\nnum_key_value_heads = 3',
            "must be a multiple of num_key_value_heads, 3",
        ),
        ('[data]\ntext = ["a"]\n[moe]\nexperts = [-1]', "moe.experts must be from 0"),
    ],
)
def test_mistakes_are_named_with_their_file(written, text, message):
    path = written(text)
    with pytest.raises(UsageError) as raised:
        read_config(path)
    assert str(raised.value).startswith(f"{path}")
    assert message in str(raised.value)


def test_a_file_that_is_not_there_or_not_text(tmp_path):
    with pytest.raises(UsageError, match=r"no\.toml cannot be read \(No such file"):
        read_config(tmp_path / "no.toml")
    (tmp_path / "b.toml").write_bytes(b"\xff")
    with pytest.raises(UsageError, match=r"b\.toml is not UTF-8"):
        read_config(tmp_path / "b.toml")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(UsageError, match="does not hold tables"):
        read_config(tmp_path / "list.json")


def test_a_model_without_experts_has_none():
    assert Config(DataConfig(("a",))).moe is None
