"""Checkpoints of runs; that they hold all that a step depends on is tested with the runs."""

import json

import pytest
import torch
from torch_runs import tiny_config

from shortlist.errors import CheckpointError, ShortlistError
from shortlist.torch import train as training
from shortlist.torch.train import checkpoint


@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.safetensors", "random.safetensors", "state.json"]
)
def test_a_damaged_checkpoint_is_one_clear_error(tmp_path, no_plots, name):
    training.train(tiny_config(tmp_path), tmp_path / "run")
    (file,) = (tmp_path / "run" / "checkpoints").glob(f"*/{name}")
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(CheckpointError, match="train anew into another folder"):
        training.resume(tmp_path / "run")


def test_one_checkpoint_is_kept_and_a_failed_one_leaves_the_last(tmp_path, monkeypatch):
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    checkpoint.save(tmp_path, 9, model, optimizer, {})
    second = checkpoint.save(tmp_path, 10, model, optimizer, {"more": 1})
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000010"]
    assert checkpoint.latest(tmp_path) == second
    assert checkpoint.load_state(second) == {"step": 10, "more": 1}

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", fail)
    with pytest.raises(ShortlistError, match=r"step 11 cannot be written .*No space left"):
        checkpoint.save(tmp_path, 11, model, optimizer, {})
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000010"]


def test_the_newest_of_several_is_the_latest(tmp_path):
    assert checkpoint.latest(tmp_path) is None
    for step in (9, 100, 20):  # an older one may be left where it could not be removed
        (tmp_path / "checkpoints" / f"step-{step:08d}").mkdir(parents=True)
    assert checkpoint.latest(tmp_path) == tmp_path / "checkpoints" / "step-00000100"


def test_a_checkpoint_that_is_there_is_not_written_again(tmp_path):
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    first = checkpoint.save(tmp_path, 3, model, optimizer, {"more": 1})
    assert checkpoint.save(tmp_path, 3, model, optimizer, {"more": 2}) == first
    assert checkpoint.load_state(first)["more"] == 1


def test_a_state_of_more_than_16_mb_is_refused(tmp_path):
    (tmp_path / "state.json").write_text('{"step": 3}' + " " * (1 << 24))
    with pytest.raises(CheckpointError, match="it is too large"):
        checkpoint.load_state(tmp_path)
    (tmp_path / "state.json").write_text('{"step": 3}' + " " * ((1 << 24) - 11))
    assert checkpoint.load_state(tmp_path) == {"step": 3}


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.update(step=-1),
        lambda state: state.update(step="3"),
        lambda state: state.pop("step"),
        lambda state: state.update(fixed=["seed"]),
        lambda state: state.update(interval=None),
        lambda state: state["interval"].update(losses=[None]),
        lambda state: state["interval"].update(more=1),
    ],
)
def test_a_state_that_train_did_not_write_is_one_clear_error(tmp_path, no_plots, change):
    training.train(tiny_config(tmp_path), tmp_path / "run")
    (file,) = (tmp_path / "run" / "checkpoints").glob("*/state.json")
    state = json.loads(file.read_text())
    change(state)
    file.write_text(json.dumps(state))
    with pytest.raises(CheckpointError, match="train anew into another folder"):
        training.resume(tmp_path / "run")
