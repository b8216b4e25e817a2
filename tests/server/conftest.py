"""A tiny model, served and alone, and servers whose model is a fake."""

import contextlib

import pytest
from builders import tiny_hf
from engine.fakes import fake_model
from server.serving import serving

import shortlist

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A tiny random llama with a byte-level tokenizer and a chat template."""
    folder = tmp_path_factory.mktemp("served") / "tiny"
    tiny_hf("llama", folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


@pytest.fixture(scope="session")
def load_tiny(tiny_folder):
    """Load the tiny model; more than one at a time may be there."""
    return lambda **options: shortlist.load(
        tiny_folder, **{"head": "exact", "weights": "q8", "threads": 1, **options}
    )


@pytest.fixture(scope="module")
def url(load_tiny):
    """The address of the tiny model's server."""
    with load_tiny() as model, serving(model) as address:
        yield address


@pytest.fixture(scope="module")
def alone(load_tiny):
    """The same model, not served: what its answers must equal."""
    with load_tiny() as model:
        yield model


@pytest.fixture
def serve_script():
    """Serve a model of fakes that answers every prompt with a text, so many seconds for each token."""
    with contextlib.ExitStack() as stack:

        def start(script, *, seconds=0.0, context_length=1024, **settings):
            model = fake_model(script, seconds=seconds, context_length=context_length)
            return stack.enter_context(serving(model, **settings))

        yield start
