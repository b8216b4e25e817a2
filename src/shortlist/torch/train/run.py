"""A training run in a folder: start, stop, resume, finish."""

import hashlib
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from shortlist import documents
from shortlist.errors import CheckpointError, ShortlistError, UsageError
from shortlist.paths import held, write_whole
from shortlist.torch.train import checkpoint, metrics
from shortlist.torch.train.config import FILE_NAME, Config, config_json, read_config
from shortlist.torch.train.export import export
from shortlist.torch.train.interrupt import Interrupt
from shortlist.torch.train.loop import Loop
from shortlist.torch.train.model import build_model
from shortlist.torch.train.not_finite import NotFiniteError
from shortlist.torch.train.plots import draw_plots
from shortlist.torch.train.result import Run
from shortlist.torch.train.tables import to_table
from shortlist.torch.train.text import check_length, read_texts, tokenize
from shortlist.torch.train.tokenizer import end_of_text, prepare_tokenizer

Report = Callable[[dict[str, Any]], None]
"""A callback that gets each line of metrics when it is written."""


def train(config: Config | str | Path, folder: str | Path, *, report: Report | None = None) -> Run:
    """Train a model in a new folder.

    Parameters
    ----------
    config
        A configuration, or the path of its TOML file.
    folder
        Folder of the run, new or empty.
    report
        Called with every line of metrics.

    Raises
    ------
    UsageError
        The configuration or a text is wrong, or the folder is in use.
    NotFiniteError
        The loss or a gradient is not finite; the message names the first module.
    """
    if not isinstance(config, Config):
        config = read_config(config)
    folder = Path(folder)
    if (folder / FILE_NAME).exists():
        raise UsageError(
            f"{folder} holds a run: continue it with shortlist train {folder}, or name another folder"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is in use: name a new folder for the run")
    texts = read_texts(config.data)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"the folder {folder} cannot be made ({error.strerror}): name another") from None
    with held(folder, "trained in"):
        try:
            work = _Work(config, folder, texts)
            write_whole(folder / FILE_NAME, config_json(config))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)  # the name is free for another try
            raise
        return work.run(report)


def resume(folder: str | Path, *, report: Report | None = None) -> Run:
    """Continue a run from its last checkpoint, with the same losses as if it had not been interrupted.

    The tables `[training]` and `[moe.losses]` may be changed before in the run's `training.json`.

    Raises
    ------
    UsageError
        There is no run, another process trains it, or another part of the configuration has changed.
    CheckpointError
        The checkpoint is damaged.
    """
    folder = Path(folder)
    config = _config_of(folder)
    with held(folder, "trained in"):
        work = _Work(config, folder, read_texts(config.data))
        work.restore()
        return work.run(report)


def load_run(folder: str | Path) -> Run:
    """Load a run from its last checkpoint.

    Raises
    ------
    UsageError
        There is no run, or it has no checkpoint.
    CheckpointError
        The checkpoint is damaged.
    """
    folder = Path(folder)
    config = _config_of(folder)
    saved = checkpoint.latest(folder)
    if saved is None:
        raise UsageError(f"{folder} has no checkpoint yet: continue the run with shortlist train {folder}")
    tokenizer = prepare_tokenizer(config.data, [], folder)
    model = build_model(config, tokenizer, start=False)
    checkpoint.load_weights(saved, model)
    step = checkpoint.load_state(saved)["step"]
    return Run(
        folder, config, model.eval(), tokenizer, step, _last_validation(folder), step >= config.training.steps
    )


@dataclass
class _Interval:
    """Sums since the last line of metrics. They are a part of a checkpoint."""

    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0


class _Work:
    """A run in progress: the loop, and the files that it writes."""

    def __init__(self, config: Config, folder: Path, texts: tuple[list[str], list[str]]):
        self.config = config
        self.folder = folder
        data = replace(config.data, tokenizer=config.data.tokenizer or config.model.start)
        self.tokenizer = prepare_tokenizer(data, texts[0], folder)
        end = end_of_text(self.tokenizer)
        train_tokens, validation_tokens = (
            tokenize(part, lambda text: self.tokenizer.encode(text, add_special=False), end) for part in texts
        )
        check_length(train_tokens, config.training.context, "text")
        check_length(validation_tokens, config.training.context, "text to validate on")
        self.text_hash = hashlib.sha256(train_tokens.tobytes() + validation_tokens.tobytes()).hexdigest()
        model = build_model(config, self.tokenizer, start=checkpoint.latest(folder) is None)
        self.loop = Loop(config, model, train_tokens, validation_tokens)
        self.interval = _Interval()

    def restore(self) -> None:
        """Go back to the last checkpoint; without one, to the start."""
        saved = checkpoint.latest(self.folder)
        if saved is None:
            metrics.forget_after(self.folder, 0)
            return
        state = checkpoint.load_state(saved)
        try:
            fixed = documents.check(state["fixed"], dict[str, Any])
            interval = documents.method(state["interval"], _Interval)
        except (KeyError, documents.DocumentError):
            raise CheckpointError(
                f"{saved} is not one that train wrote: train anew into another folder"
            ) from None
        if changed := _first_difference(fixed, self._fixed()):
            raise UsageError(
                f"{self.folder / FILE_NAME}: {changed} was another when the run began and cannot change: "
                "set it back, or train anew into another folder"
            )
        checkpoint.load_weights(saved, self.loop.model)
        checkpoint.load_optimizer(saved, self.loop.optimizer)
        self.loop.done = state["step"]
        self.interval = interval
        metrics.forget_after(self.folder, self.loop.done)

    def run(self, report: Report | None) -> Run:
        """Take the remaining steps."""
        loop, steps = self.loop, self.config.training.steps
        with Interrupt() as interrupt:
            try:
                while loop.done < steps and not interrupt.requested:
                    self._step(report)
            except NotFiniteError as error:
                raise ShortlistError(f"{error}: {self._advice()}") from None
            self._save()
        finished = loop.done >= steps
        loop.model.eval()
        note = export(loop.model, self.config, self.folder) if finished else None
        run = Run(
            self.folder,
            self.config,
            loop.model,
            self.tokenizer,
            loop.done,
            _last_validation(self.folder),
            finished,
            note,
            interrupt.number,
        )
        if finished:
            draw_plots(run)
        return run

    def _step(self, report: Report | None) -> None:
        settings, loop = self.config.training, self.loop
        start = time.perf_counter()
        step = loop.step()
        self.interval.seconds += time.perf_counter() - start
        self.interval.losses.append(step.loss)

        def due(every: int) -> bool:
            return loop.done % every == 0 or loop.done == settings.steps

        if due(settings.log_every) or due(settings.validate_every):
            count = len(self.interval.losses)
            line: dict[str, Any] = {
                "step": loop.done,
                "steps": settings.steps,
                "loss": sum(self.interval.losses) / count,
                "losses": step.losses,
                "gradient_norm": step.gradient_norm,
                "learning_rate": step.learning_rate,
                "tokens_per_s": count * settings.batch * settings.context / self.interval.seconds,
                "experts": metrics.expert_stats(loop.model),
            }
            if due(settings.validate_every):
                line["validation_loss"] = loop.validate()
            self.interval = _Interval()
            metrics.append(self.folder, line)
            if report is not None:
                report(line)
        if due(settings.checkpoint_every):
            self._save()

    def _save(self) -> None:
        state = {"fixed": self._fixed(), "interval": vars(self.interval)}
        checkpoint.save(self.folder, self.loop.done, self.loop.model, self.loop.optimizer, state)

    def _fixed(self) -> dict[str, Any]:
        """The part of the configuration that must not change when a run is resumed."""
        table = to_table(self.config)
        loop = table.pop("training")
        moe = {key: value for key, value in table.get("moe", {}).items() if key != "losses"}
        return {**table, "moe": moe, "training": {"seed": loop["seed"]}, "text of data": self.text_hash}

    def _advice(self) -> str:
        saved = checkpoint.latest(self.folder)
        start = f"step {checkpoint.load_state(saved)['step']}" if saved else "the start"
        return (
            f"set a smaller learning_rate than {self.config.training.learning_rate:g} in "
            f"{self.folder / FILE_NAME}, then continue from {start} with shortlist train {self.folder}"
        )


def _config_of(folder: Path) -> Config:
    if not (folder / FILE_NAME).exists():
        raise UsageError(f"{folder} holds no run: begin one with shortlist train CONFIG.toml -o {folder}")
    return read_config(folder / FILE_NAME)


def _last_validation(folder: Path) -> float | None:
    lines = [line["validation_loss"] for line in metrics.read(folder) if "validation_loss" in line]
    return lines[-1] if lines else None


def _first_difference(old: Any, new: Any, place: str = "") -> str | None:
    """The path of the first difference between two tables, such as `model.hidden_size`."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            if found := _first_difference(old.get(key), new.get(key), f"{place}.{key}".lstrip(".")):
                return found
        return None
    return None if old == new else place
