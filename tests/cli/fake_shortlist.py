"""The `shortlist` command with fake models, for tests that need a process of their own.

MODEL says what the model does: `endless` writes slowly until it is stopped; anything else is the answer.
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from engine.fakes import ByteTokenizer, FakeDecoder, FakeHead

import shortlist.engine.load
from shortlist.cli import main
from shortlist.engine.model import Model


class SlowDecoder(FakeDecoder):
    def forward(self, tokens, cache):
        time.sleep(0.005)
        return super().forward(tokens, cache)


def load(name, **_options):
    """Any prompt is answered by the model's name."""
    script = b"word " * 10_000 if name == "endless" else name.encode()
    decoder = SlowDecoder(script=script, context_length=60_000)
    return Model(decoder, ByteTokenizer(), FakeHead(scripted=True))


if __name__ == "__main__":
    shortlist.engine.load.load = load
    main()
