"""Configurations of training, and the files that hold them."""

import pytest

from shortlist.errors import UsageError
from shortlist.torch.train.config import (
    USUAL_LOSSES,
    Config,
    DataConfig,
    GateConfig,
    LoopConfig,
    ModelConfig,
    MoEConfig,
    config_json,
    read_config,
)
from shortlist.torch.train.tables import to_table

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


def test_what_is_left_out_is_as_documented():
    assert to_table(Config(DataConfig(("a",)), moe=MoEConfig())) == {
        "data": {"text": ["a"], "validation": [], "validation_share": 0.05, "vocabulary": 2048},
        "model": {
            "type": "llama",
            "hidden_size": 128,
            "intermediate_size": 352,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "tie_word_embeddings": True,
        },
        "moe": {"experts": 8, "shared": 0, "masked": 0.1, "gate": {"kind": "softmax", "wrap": []}},
        "training": {
            "steps": 1000,
            "batch": 16,
            "context": 128,
            "learning_rate": 1e-3,
            "schedule": "cosine",
            "warmup": 50,
            "weight_decay": 0.1,
            "clip": 1.0,
            "seed": 0,
            "precision": "float32",
            "device": "auto",
            "log_every": 10,
            "validate_every": 200,
            "checkpoint_every": 200,
            "validation_tokens": 32_768,
        },
    }
    assert USUAL_LOSSES == {"load_balance": 0.01, "router_z": 0.001}


@pytest.mark.parametrize(
    ("make", "key", "fits", "does_not"),
    [
        (DataConfig, "validation_share", (0.001, 0.9), (0.0009, 0.91)),
        (DataConfig, "vocabulary", (257, 1 << 20), (256, (1 << 20) + 1)),
        (ModelConfig, "hidden_size", (4, 1 << 20), (0, (1 << 20) + 4)),
        (ModelConfig, "intermediate_size", (1, 1 << 20), (0, (1 << 20) + 1)),
        (ModelConfig, "num_hidden_layers", (1, 1 << 20), (0, (1 << 20) + 1)),
        (ModelConfig, "num_key_value_heads", (1, 2, 4), (0, 3, 5)),
        (MoEConfig, "experts", (0, 1 << 14, (0, 1 << 14)), (-1, (1 << 14) + 1, (1, -1))),
        (MoEConfig, "width", (1, 1 << 20, None), (0, (1 << 20) + 1)),
        (MoEConfig, "shared", (0, 1 << 20), (-1, (1 << 20) + 1)),
        (MoEConfig, "masked", (0, 1), (-0.1, 1.1)),
        (MoEConfig, "losses", ({"l1": -3.0},), ({"l1": float("inf")}, {"l1": float("nan")})),
        (LoopConfig, "steps", (1,), (0,)),
        (LoopConfig, "batch", (1,), (0,)),
        (LoopConfig, "log_every", (1,), (0,)),
        (LoopConfig, "validate_every", (1,), (0,)),
        (LoopConfig, "checkpoint_every", (1,), (0,)),
        (LoopConfig, "validation_tokens", (1,), (0,)),
        (LoopConfig, "context", (2, 1 << 20), (1, (1 << 20) + 1)),
        (LoopConfig, "warmup", (0,), (-1,)),
        (LoopConfig, "seed", (0, (1 << 63) - 1), (-1, 1 << 63)),
        (LoopConfig, "learning_rate", (0,), (-0.1, float("nan"))),
        (LoopConfig, "weight_decay", (0,), (-0.1,)),
        (LoopConfig, "clip", (0,), (-0.1,)),
    ],
)
def test_limits_are_part_of_what_fits(make, key, fits, does_not):
    given = {"text": ("a",)} if make is DataConfig else {}
    for value in fits:
        assert getattr(make(**given, **{key: value}), key) == value
    for value in does_not:
        with pytest.raises(UsageError, match=key):
            make(**given, **{key: value})
