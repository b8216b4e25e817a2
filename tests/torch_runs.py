"""Configurations and texts for runs that take a second."""

from pathlib import Path

from shortlist.torch.train.config import Config, DataConfig, LoopConfig, ModelConfig, MoEConfig

TEXT = "the cat sat on the mat and the dog ran to the sea while the bird sang of the sky\n" * 30


def tiny_config(folder: Path, moe: MoEConfig | None = None, **loop) -> Config:
    """A model of two narrow layers, on a text that is written to a folder."""
    text = folder / "text.txt"
    text.write_text(TEXT)
    return Config(
        DataConfig((str(text),), vocabulary=270),
        ModelConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
        ),
        moe,
        LoopConfig(
            **{
                "steps": 8,
                "batch": 4,
                "context": 16,
                "warmup": 2,
                "learning_rate": 0.01,
                "log_every": 2,
                "validate_every": 4,
                "checkpoint_every": 3,
                "validation_tokens": 64,
                **loop,
            }
        ),
    )
