"""Runs: trained, stopped, continued, saved."""

import dataclasses
import json
import os
import re
import shutil
import signal

import pytest
import torch
from torch_runs import TEXT, tiny_config

from shortlist.errors import CheckpointError, ShortlistError, UsageError
from shortlist.torch import train as training
from shortlist.torch.gates import GATES, WRAPPERS
from shortlist.torch.train import metrics
from shortlist.torch.train.config import FILE_NAME, GateConfig, MoEConfig


def interrupt_at(step, times=1):
    """A `report` that sends Ctrl-C after a step; twice means at once."""

    def report(line):
        if line["step"] == step:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)

    return report


def losses(folder):
    """All that is measured and does not depend on the clock."""
    lines = metrics.read(folder)
    for line in lines:
        del line["tokens_per_s"]
    return lines


def change(folder, table, **values):
    """Edit the configuration of a run, as a user may."""
    document = json.loads((folder / FILE_NAME).read_text())
    document.setdefault(table, {}).update(values)
    (folder / FILE_NAME).write_text(json.dumps(document))


GATE_CONFIGS = [GateConfig(kind) for kind in sorted(GATES)] + [
    GateConfig("softmax", wrap=(name,)) for name in sorted(WRAPPERS)
]


@pytest.mark.parametrize("gate", [None, *GATE_CONFIGS], ids=str)
def test_a_continued_run_has_the_losses_of_an_uninterrupted_one(tmp_path, no_plots, gate):
    config = tiny_config(tmp_path, gate and MoEConfig(experts=4, width=16, gate=gate), log_every=1, steps=6)
    whole = training.train(config, tmp_path / "whole")
    stopped = training.train(config, tmp_path / "parts", report=interrupt_at(4))
    assert (stopped.finished, stopped.step) == (False, 4)
    torch.manual_seed(99)  # what happens in between does not matter
    continued = training.resume(tmp_path / "parts")
    assert (continued.finished, continued.step) == (True, 6)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(continued.model.state_dict()[name], tensor), name


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_the_step_with_a_checkpoint(tmp_path, no_plots, number):
    def report(line):
        if line["step"] == 2:
            signal.raise_signal(number)

    run = training.train(tiny_config(tmp_path), tmp_path / "run", report=report)
    assert (run.finished, run.step, run.stopped_by) == (False, 2, number)
    assert training.load_run(tmp_path / "run").step == 2
    assert training.resume(tmp_path / "run").stopped_by is None


def test_a_run_is_continued_by_one_at_a_time(tmp_path, no_plots):
    folder = tmp_path / "run"
    refused = []

    def again(line):
        if not refused:
            with pytest.raises(UsageError) as error:
                training.resume(folder)
            refused.append(str(error.value))

    training.train(tiny_config(tmp_path), folder, report=interrupt_at(2))
    before = losses(folder)
    training.resume(folder, report=again)
    assert refused == [
        f"{folder} is being trained in by process {os.getpid()}: wait for it, or stop it first"
    ]
    assert losses(folder)[: len(before)] == before
    assert [line["step"] for line in losses(folder)] == [2, 4, 6, 8]
    refused.clear()
    training.train(
        tiny_config(tmp_path),
        tmp_path / "new",
        report=lambda line: refused or held_by(tmp_path / "new", refused),
    )
    assert len(refused) == 1


def held_by(folder, refused):
    with pytest.raises(UsageError, match="is being trained in by process"):
        training.resume(folder)
    refused.append(folder)


def test_a_run_that_was_killed_goes_back_to_its_last_checkpoint(tmp_path, no_plots):
    config = tiny_config(tmp_path, MoEConfig(experts=2, gate=GateConfig("noisy_top_k")))
    training.train(config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        training.train(config, tmp_path / "parts", report=interrupt_at(4, times=2))
    with (tmp_path / "parts" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')  # cut off
    training.resume(tmp_path / "parts")
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def test_a_run_without_a_checkpoint_begins_again(tmp_path, no_plots):
    config = tiny_config(tmp_path, log_every=1)
    training.train(config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        training.train(config, tmp_path / "parts", report=interrupt_at(2, times=2))
    training.resume(tmp_path / "parts")
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def test_training_learns_and_measures(tmp_path, no_plots):
    config = tiny_config(tmp_path, MoEConfig(experts=4, shared=8), steps=40, validate_every=20)
    seen = []
    run = training.train(config, tmp_path / "run", report=seen.append)
    lines = metrics.read(tmp_path / "run")
    assert seen == lines
    assert lines[-1]["loss"] < 0.6 * lines[0]["loss"]
    assert run.validation_loss == lines[-1]["validation_loss"] < 0.6 * lines[0]["loss"]
    assert [line["step"] for line in lines] == list(range(2, 41, 2))
    for layer in lines[-1]["experts"]:
        assert sum(layer["load"]) == pytest.approx(1, abs=1e-4)
        assert layer["active"] == 2
        assert 1 <= layer["effective"] <= 2
    assert set(lines[0]["losses"]) == {"load_balance", "router_z"}


def test_losses_of_gates_are_weighted(tmp_path, no_plots):
    def balance(weight):
        moe = MoEConfig(experts=4, gate=GateConfig(options={"k": 1}), losses={"load_balance": weight})
        folder = tmp_path / str(weight)
        training.train(tiny_config(tmp_path, moe, steps=16), folder)
        return metrics.read(folder)[-1]["losses"]["load_balance"]

    assert balance(10.0) < balance(-10.0)


def test_validation_leaves_no_trace(tmp_path, no_plots):
    config = tiny_config(tmp_path, MoEConfig(experts=4, gate=GateConfig("evomoe")), log_every=1)
    often = dataclasses.replace(config, training=dataclasses.replace(config.training, validate_every=1))
    training.train(config, tmp_path / "seldom")
    training.train(often, tmp_path / "often")
    seldom, often = ([line["loss"] for line in losses(tmp_path / name)] for name in ("seldom", "often"))
    assert seldom == often


def test_numbers_that_are_not_finite_are_located(tmp_path, no_plots):
    config = tiny_config(tmp_path, learning_rate=1e30, warmup=0, steps=20)
    with pytest.raises(ShortlistError) as raised:
        training.train(config, tmp_path / "run")
    message = str(raised.value)
    assert re.match(r"step 2: (the loss is|gradients are) not finite, beginning with [a-z ]*model\.", message)
    assert f"in {tmp_path / 'run' / FILE_NAME}, then continue from the start with shortlist train" in message
    change(tmp_path / "run", "training", learning_rate=0.01, steps=4)
    assert training.resume(tmp_path / "run").finished


def test_more_steps_can_be_asked_for_later(tmp_path, no_plots):
    training.train(tiny_config(tmp_path), tmp_path / "run")
    change(tmp_path / "run", "training", steps=12, learning_rate=0.001)
    run = training.resume(tmp_path / "run")
    assert run.step == 12
    assert [line["step"] for line in metrics.read(tmp_path / "run")] == [2, 4, 6, 8, 10, 12]


@pytest.mark.parametrize(
    ("table", "values", "named"),
    [
        ("model", {"hidden_size": 64}, "model.hidden_size"),
        ("moe", {"experts": 3}, "moe.experts"),
        ("training", {"seed": 1}, "training.seed"),
    ],
)
def test_what_cannot_change_is_named(tmp_path, no_plots, table, values, named):
    training.train(tiny_config(tmp_path, MoEConfig(experts=2)), tmp_path / "run")
    change(tmp_path / "run", table, **values)
    with pytest.raises(UsageError, match=rf"{named} was another when the run began"):
        training.resume(tmp_path / "run")


def test_files_of_a_run_that_are_damaged(tmp_path, no_plots):
    folder = training.train(tiny_config(tmp_path), tmp_path / "run").folder
    lines = (folder / metrics.FILE_NAME).read_text()
    (folder / metrics.FILE_NAME).write_text("x\n" + lines)
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl is damaged .*: delete it"):
        training.resume(folder)
    (folder / metrics.FILE_NAME).write_text(lines)
    (state,) = (folder / "checkpoints").glob("*/state.json")
    for wrong in ({"step": 8}, {"step": 8, "fixed": 3, "interval": {}}):
        state.write_text(json.dumps(wrong))
        with pytest.raises(CheckpointError, match="is not one that train wrote"):
            training.resume(folder)


def test_a_text_that_changed_is_noticed(tmp_path, no_plots):
    training.train(tiny_config(tmp_path), tmp_path / "run")
    (tmp_path / "text.txt").write_text(TEXT.upper())
    with pytest.raises(UsageError, match="text of data was another"):
        training.resume(tmp_path / "run")


def test_a_folder_is_not_written_over(tmp_path, no_plots):
    config = tiny_config(tmp_path)
    with pytest.raises(UsageError, match="is in use: name a new folder"):
        training.train(config, tmp_path)
    training.train(config, tmp_path / "run")
    with pytest.raises(UsageError, match="holds a run: continue it with shortlist train"):
        training.train(config, tmp_path / "run")
    with pytest.raises(UsageError, match="holds no run"):
        training.resume(tmp_path)


def test_a_mistake_leaves_no_folder(tmp_path):
    with pytest.raises(UsageError, match="kind 'sofmax' is unknown"):
        training.train(tiny_config(tmp_path, MoEConfig(gate=GateConfig("sofmax"))), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_experts_may_start_as_copies_of_a_dense_run(tmp_path, no_plots):
    dense = training.train(tiny_config(tmp_path, steps=30), tmp_path / "dense")
    moe = MoEConfig(experts=4, masked=0.25, gate=GateConfig("evomoe", options={"k": 1}))
    config = tiny_config(tmp_path, moe, learning_rate=1e-9, steps=4, log_every=1)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, start=str(dense.folder)))
    run = training.train(config, tmp_path / "moe")
    assert metrics.read(run.folder)[0]["experts"][0]["active"] == 4, "dense to begin with"
    assert run.validation_loss == pytest.approx(dense.validation_loss, rel=0.2)
    block, layer = (model.model.layers[1].mlp for model in (dense.model, run.model))
    kept = layer.experts.down_proj[0].abs().sum(0) > 1e-3
    assert kept.sum() == 48, "of 64 neurons"
    torch.testing.assert_close(
        layer.experts.down_proj[0][:, kept], block.down_proj.weight[:, kept], atol=1e-6, rtol=0
    )
    shutil.rmtree(dense.folder)
    torch.testing.assert_close(training.load_run(run.folder).model.state_dict(), run.model.state_dict())


def test_what_a_run_cannot_start_with(tmp_path, no_plots):
    config = tiny_config(tmp_path)
    tokenizer = training.train(config, tmp_path / "dense").folder

    def start(moe=None, **model):
        data = dataclasses.replace(config.data, tokenizer=str(tokenizer))
        changed = dataclasses.replace(
            config, data=data, moe=moe, model=dataclasses.replace(config.model, **model)
        )
        training.train(changed, tmp_path / "run")

    with pytest.raises(UsageError, match=r"\[model\] start: .* holds no run with a checkpoint"):
        start(start=str(tmp_path))
    with pytest.raises(UsageError, match=r"\[model\] start: .*model.safetensors cannot be used"):
        start(start=str(tmp_path / "dense"), hidden_size=64)
    with pytest.raises(UsageError, match=r"\[moe\] width must be left out"):
        start(MoEConfig(experts=2, width=16), start=str(tmp_path / "dense"))
    with pytest.raises(UsageError, match=r"\[model\] start: .*cannot be used"):
        start(MoEConfig(experts=2), start=str(tmp_path / "dense"), type="arcee")
