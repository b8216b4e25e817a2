"""The `shortlist` command with fake models, for tests that need a process of their own.

MODEL says what the model does: `endless` writes slowly until it is stopped; anything else is the answer, and
`chatty` has a chat template. The file that FAKE_LOADED names is created once a model is loaded.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from engine.fakes import fake_model

import shortlist.engine.load
from shortlist.cli import main


def load(name, **_options):
    """Any prompt is answered by the model's name."""
    if loaded := os.environ.get("FAKE_LOADED"):
        Path(loaded).touch()
    endless = name == "endless"
    script = b"word " * 10_000 if endless else name.encode()
    model = fake_model(script, context_length=60_000, seconds=0.005 if endless else 0.0)
    model.tokenizer.chat_template = "{{ messages }}" if name == "chatty" else None
    return model


if __name__ == "__main__":
    shortlist.engine.load.load = load
    main()
