"""Gates under the Trainer of transformers."""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments  # noqa: E402

import shortlist.torch  # noqa: E402
from shortlist.torch import Experts, GateCallback, MoE, after_step, moe_layers, patch, set_progress  # noqa: E402
from shortlist.torch.gates import GATES  # noqa: E402


def model_with(gate):
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        vocab_size=50,
    )
    model = LlamaForCausalLM(config)
    patch(model, lambda *_: MoE(GATES[gate](16, 4), Experts(4, 16, 8)))
    return model


def texts(count=32):
    generator = torch.Generator().manual_seed(1)
    ids = [torch.randint(0, 50, (8,), generator=generator) for _ in range(count)]
    return [{"input_ids": each, "labels": each} for each in ids]


def train(model, folder, callbacks, **arguments):
    settings = TrainingArguments(
        str(folder),
        max_steps=4,
        per_device_train_batch_size=4,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
        logging_strategy="no",
        **arguments,
    )
    Trainer(model, settings, train_dataset=texts(), callbacks=callbacks).train()


def test_progress_goes_from_nothing_by_the_share_of_the_steps(tmp_path):
    model, seen = model_with("temperature"), []

    class Watch(transformers.TrainerCallback):
        def on_substep_end(self, *_, **__):
            seen.append([layer.gate.progress for layer in moe_layers(model)])

        def on_step_end(self, *_, **__):
            seen.append([layer.gate.progress for layer in moe_layers(model)])

    train(model, tmp_path, [GateCallback(), Watch()], gradient_accumulation_steps=2)
    assert seen == [[share] * 2 for share in (0, 0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75)]


@pytest.mark.parametrize("gate", ["sigmoid", "dual_price"])
def test_gates_adjust_once_for_each_step_of_the_optimizer(tmp_path, gate, monkeypatch):
    model, calls = model_with(gate), []
    monkeypatch.setattr(
        "shortlist.torch.trainer.after_step", lambda given: calls.append(given) or after_step(given)
    )
    train(model, tmp_path, [GateCallback()], gradient_accumulation_steps=2)
    assert len(calls) == 4
    for layer in moe_layers(model):
        assert all(buffer.any() for buffer in layer.gate.buffers())


def test_without_it_nothing_moves(tmp_path):
    model = model_with("dual_price")
    train(model, tmp_path, [])
    assert not any(layer.gate.price.any() for layer in moe_layers(model))
    set_progress(model, 0.5)


def test_only_known_names_are_looked_up():
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        shortlist.torch.Nothing  # noqa: B018
