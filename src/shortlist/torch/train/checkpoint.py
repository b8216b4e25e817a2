"""Checkpoints of a run: the whole state of training, in safetensors and JSON. Nothing is pickled."""

import json
import shutil
from pathlib import Path
from typing import Annotated, Any

import msgspec
import safetensors
import torch
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn
from torch.optim import Optimizer

from shortlist import documents
from shortlist.errors import CheckpointError, ShortlistError, one_line

_MODEL, _OPTIMIZER = "model.safetensors", "optimizer.safetensors"
_RANDOM, _STATE = "random.safetensors", "state.json"
_MAX_STATE = 1 << 24


class _State(msgspec.Struct):
    step: Annotated[int, msgspec.Meta(ge=0)]


def save(run: Path, step: int, model: nn.Module, optimizer: Optimizer, state: dict[str, Any]) -> Path:
    """Write a checkpoint, complete or not at all; then remove older ones.

    Parameters
    ----------
    run
        Folder of the run.
    step
        Number of steps taken.
    state
        Further state, stored as JSON.

    Raises
    ------
    ShortlistError
        The checkpoint cannot be written.
    """
    target = _folder(run) / f"step-{step:08d}"
    staging = _folder(run) / ".staging"
    if target.exists():
        return target
    try:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        save_model(model, str(staging / _MODEL))
        save_file(_flat(optimizer), staging / _OPTIMIZER)
        save_file(_random_states(), staging / _RANDOM)
        (staging / _STATE).write_text(json.dumps({"step": step, **state}), encoding="utf-8")
        staging.replace(target)
    except (OSError, safetensors.SafetensorError) as error:
        raise ShortlistError(
            f"the checkpoint of step {step} cannot be written to {target.parent} ({error}): "
            "free some space there"
        ) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    for old in _folder(run).glob("step-*"):
        if old != target:
            shutil.rmtree(old, ignore_errors=True)
    return target


def latest(run: Path) -> Path | None:
    """The newest checkpoint of a run, if there is one."""
    return max(_folder(run).glob("step-*"), default=None)


def load_state(checkpoint: Path) -> dict[str, Any]:
    """The `state` that `save` was given, with the step.

    Raises
    ------
    CheckpointError
        The checkpoint is missing or damaged.
    """
    path = checkpoint / _STATE
    try:
        if path.stat().st_size > _MAX_STATE:
            raise ValueError("it is too large")
        data = path.read_bytes()
        documents.read(data, _State)
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from None
    return json.loads(data)


def load_weights(checkpoint: Path, model: nn.Module) -> None:
    """Load weights and buffers of a checkpoint into a model.

    Raises
    ------
    CheckpointError
        They are missing or damaged, or belong to another model.
    """
    try:
        load_model(model, str(checkpoint / _MODEL))
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        raise _damaged(checkpoint / _MODEL, error) from None


def load_optimizer(checkpoint: Path, optimizer: Optimizer) -> None:
    """Load a checkpoint's state into an optimizer and all random generators of PyTorch.

    Learning rates and weight decays are not loaded: the configuration sets them.

    Raises
    ------
    CheckpointError
        They are missing or damaged, or belong to another model.
    """
    try:
        states: dict[int, dict[str, Tensor]] = {}
        for name, tensor in load_file(checkpoint / _OPTIMIZER).items():
            number, _, key = name.partition(".")
            states.setdefault(int(number), {})[key] = tensor
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": states, "param_groups": groups})
        random = load_file(checkpoint / _RANDOM)
        torch.set_rng_state(random["cpu"])
        for index in range(torch.cuda.device_count()):
            if f"cuda.{index}" in random:
                torch.cuda.set_rng_state(random[f"cuda.{index}"], index)
    except (OSError, ValueError, KeyError, RuntimeError, safetensors.SafetensorError) as error:
        raise _damaged(checkpoint, error) from None


def _folder(run: Path) -> Path:
    return run / "checkpoints"


def _flat(optimizer: Optimizer) -> dict[str, Tensor]:
    """Moments and counters of each parameter, named `NUMBER.NAME`."""
    states = optimizer.state_dict()["state"]
    return {f"{number}.{key}": value for number, state in states.items() for key, value in state.items()}


def _random_states() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    for index in range(torch.cuda.device_count()):
        states[f"cuda.{index}"] = torch.cuda.get_rng_state(index)
    return states


def _damaged(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path} cannot be used ({one_line(error):.200}): train anew into another folder")
