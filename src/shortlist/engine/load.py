"""`shortlist.load`: from a name to a model that is ready to generate."""

from pathlib import Path
from typing import Literal

from shortlist import checkpoints
from shortlist import recipe as recipes
from shortlist.engine.choose_head import Choice, HeadName, choose_head, how_often_it_differs
from shortlist.engine.model import Model, context_of
from shortlist.model.decoder import Decoder, Ffn, available_threads
from shortlist.model.tokenizer.tokenizer import Tokenizer
from shortlist.nearest import options_checked


@options_checked
def load(
    name: str | Path,
    *,
    threads: int | None = None,
    head: HeadName = "auto",
    ffn: Ffn = "auto",
    weights: Literal["q8", "q4"] | None = None,
    context: int | None = None,
    recipe: str | Path | None = None,
    progress: bool = True,
) -> Model:
    """Load a model.

    Parameters
    ----------
    name
        One that was pulled, a GGUF file, a Hugging Face folder, or `hf:owner/repo[:file.gguf]`.
    threads
        That compute for this model, whatever other models have; default is every core that the process may
        use.
    head
        How the language-model head is read. `dense`: all rows. `estimated`: the rows that a low-rank estimate
        leaves, with a recipe that was named or that `shortlist fit` made. `exact`: the rows that provably
        suffice for the dense output. `auto`: as the recipe says; without one exact or dense, whose text is
        the same.
    ffn
        How feed-forward layers are read. `dense`: all neurons. Where the activation has exact zeros also
        `exact`: the neurons that fire, and `estimated`: those that 4-bit copies of the gates leave. `auto`:
        as the recipe says, where one is named, else see `Decoder`.
    weights
        Quantize a float checkpoint to 8 or 4 bits.
    context
        Most tokens of prompt and answer together; default is what the model was trained for.
    recipe
        Folder of a recipe, such as `shortlist tune` writes; all that it says of head and layers is used. Left
        out, the head takes the one that `shortlist fit` left in the cache folder, if there is one.
    progress
        Changes nothing: it was for fitting, which loading no longer does.

    Returns
    -------
    Model
        Release its memory with `close`, or use it in a `with` statement.

    Raises
    ------
    UsageError
        An option is unknown or out of range, there is no such model, or its estimated head is not fitted yet.
    CheckpointError
        The model was not pulled, or its files are damaged or unsupported.
    RecipeError
        The recipe cannot be used.

    Examples
    --------
    >>> with shortlist.load("smollm2-135m", head="exact") as model:
    ...     print(model.generate("The capital of France is", max_tokens=8).text)
    """
    with checkpoints.open_checkpoint(checkpoints.resolve(name)) as checkpoint:
        context = context_of(checkpoint.config, context)  # a mistake here costs no time
        named = None if recipe is None else recipes.load(Path(recipe), checkpoint.fingerprint)
        parts = named.sites if named else {}
        decoder = Decoder(checkpoint, weights=weights, ffn=ffn, parts=parts, threads=threads)
        tokenizer = Tokenizer.from_checkpoint(checkpoint)
        sampling_defaults, warnings = checkpoint.sampling_defaults, (*checkpoint.notes, *tokenizer.notes)
    if threads is not None and threads > (cores := available_threads()):
        warnings = (*warnings, f"{threads} threads share {cores} cores: as many threads as cores are faster")
    choice = choose_head(head, decoder, str(name), recipe=named)
    return Model(
        decoder,
        tokenizer,
        choice.head,
        name=str(name),
        context=context,
        recipe=named or choice.recipe,
        warnings=warnings,
        notes=_notes(choice),
        sampling_defaults=sampling_defaults,
    )


def _notes(choice: Choice) -> list[str]:
    """Why the head is this one, and what that means for the text."""
    notes = [f"the {choice.head.name} head was chosen: {choice.reason}"] if choice.reason else []
    if choice.head.name == "estimated" and choice.recipe is not None:
        notes.append(f"the head is estimated: {how_often_it_differs(choice.recipe.measured)}")
    return notes
