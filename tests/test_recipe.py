"""A recipe comes back as it was saved, or is refused with one line that says what to do."""

import contextlib
import dataclasses
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shortlist import recipe as recipes
from shortlist.errors import RecipeError, UsageError
from shortlist.estimators import BitPlanes, LowRank
from shortlist.recipe import FILE_NAME, Recipe
from shortlist.selectors import Certified, Confidence, TopK
from shortlist.sites.base import Part

UNITS, WIDTH = 12, 64


def part(estimator, selector):
    rng = np.random.default_rng(0)
    table, queries = (rng.standard_normal((n, WIDTH)).astype(np.float32) for n in (UNITS, 80))
    return Part(estimator, selector, UNITS, WIDTH, estimator.fit(table, queries))


@pytest.fixture
def saved(tmp_path):
    """A recipe and the folder that it was saved to."""
    parts = {"head": part(LowRank(32), Confidence(sigma=5.5)), "layers.0.o": part(BitPlanes(), Certified())}
    recipe = Recipe("tiny", "f00d", parts, {"head": {"recall": 0.999}}, head="estimated", ffn="dense")
    folder = tmp_path / "recipes" / "f00d"
    recipes.save(recipe, folder)
    return recipe, folder


def edit(folder, change):
    path = folder / FILE_NAME
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_recipe_comes_back(saved):
    recipe, folder = saved
    loaded = recipes.load(folder, "f00d")
    assert loaded.summary() == recipe.summary()
    for place, want in recipe.parts.items():
        found = loaded.parts[place]
        assert (found.estimator, found.selector) == (want.estimator, want.selector)
        for name, array in want.state.items():
            np.testing.assert_array_equal(found.state[name], array)
            assert found.state[name].dtype == array.dtype


def test_a_recipe_of_the_head_alone_from_version_1_is_read(saved):
    recipe, folder = saved

    def older(document):
        document["version"] = 1
        del document["head"], document["ffn"]

    edit(folder, older)
    loaded = recipes.load(folder, "f00d")
    assert (loaded.head, loaded.ffn) == (None, None)
    assert loaded.parts.keys() == recipe.parts.keys()


def test_parts_of_layers_are_those_that_are_not_the_heads(saved):
    assert set(saved[0].layer_parts) == {"layers.0.o"}


def test_saving_again_leaves_one_recipe_and_nothing_else(saved):
    _, folder = saved
    recipes.save(Recipe("tiny", "f00d", {"head": part(LowRank(33), TopK(4))}), folder)
    assert len(list(folder.iterdir())) == 2
    assert recipes.load(folder, "f00d").parts["head"].selector == TopK(4)


def test_failed_save_keeps_the_old_recipe(saved, monkeypatch):
    recipe, folder = saved

    def fail(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(RecipeError, match="No space left"):
        recipes.save(Recipe("tiny", "f00d", {"head": part(LowRank(33), TopK(4))}), folder)
    assert len(list(folder.iterdir())) == 2
    assert recipes.load(folder, "f00d").summary() == recipe.summary()


def test_other_checkpoint_is_refused(saved):
    with pytest.raises(RecipeError, match=r"another checkpoint \(tiny\)"):
        recipes.load(saved[1], "beef")


def test_missing_recipe_is_named(tmp_path):
    with pytest.raises(RecipeError, match="no recipe at"):
        recipes.load(tmp_path, "f00d")


def change_tensor(folder):
    (path,) = folder.glob("*.safetensors")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: edit(f, lambda d: d.update(version=99)), "version 99 .* update"),
        (lambda f: edit(f, lambda d: d.pop("version")), "missing required field `version`"),
        (lambda f: edit(f, lambda d: d.update(version="2")), "version"),
        (lambda f: edit(f, lambda d: d.update(version=-1)), "version"),
        (
            lambda f: edit(f, lambda d: d["parts"].update(tail=d["parts"].pop("head"))),
            "unknown place tail .* update",
        ),
        (lambda f: edit(f, lambda d: d.update(head="guessed")), "head in the unknown way guessed .* update"),
        (lambda f: edit(f, lambda d: d.update(ffn=["dense"])), "ffn in the unknown way"),
        (
            lambda f: edit(f, lambda d: d["parts"]["head"]["estimator"].update(name="oracle")),
            "unknown estimator",
        ),
        (
            lambda f: edit(f, lambda d: d["parts"]["head"]["selector"].update(name="oracle")),
            "unknown selector",
        ),
        (lambda f: edit(f, lambda d: d["parts"]["head"]["selector"].update(sigma="high")), "damaged"),
        (lambda f: edit(f, lambda d: d["parts"]["head"]["selector"].update(sigma=-1)), "sigma"),
        (lambda f: edit(f, lambda d: d["parts"]["head"]["estimator"].update(speed=9)), "damaged"),
        (lambda f: edit(f, lambda d: d["parts"]["head"].update(units=13)), "damaged: array"),
        (lambda f: edit(f, lambda d: d["parts"].update(head=d["parts"]["layers.0.o"])), "damaged"),
        (lambda f: edit(f, lambda d: d["tensors"].update(file="../x")), "not a file name"),
        (lambda f: edit(f, lambda d: d.pop("parts")), "damaged"),
        (lambda f: edit(f, lambda d: d["measured"].update(head=5)), "damaged"),
        (lambda f: edit(f, lambda d: d["measured"]["head"].update(seconds_per_token="fast")), "damaged"),
        (
            lambda f: edit(f, lambda d: d["measured"]["head"].update(seconds_per_token={"exact": 0})),
            "> 0.*seconds_per_token",
        ),
        (lambda f: edit(f, lambda d: d["measured"].update(head=[1])), "measured"),
        (lambda f: edit(f, lambda d: d["measured"].update(head=[{}])), "head of measured is a list"),
        (lambda f: edit(f, lambda d: d["measured"].update(frontier={})), "frontier of measured is a dict"),
        (lambda f: edit(f, lambda d: d["measured"].update(whole={"seconds_per_token": [1]})), "damaged"),
        (lambda f: edit(f, lambda d: d["parts"]["head"]["selector"].update(probes=2**63)), "out of range"),
        (lambda f: edit(f, lambda d: d["parts"]["head"]["selector"].update(probes=2**31)), "probes|int"),
        (lambda f: edit(f, lambda d: d["parts"]["head"]["selector"].update(probes=1.5)), "probes"),
        (lambda f: edit(f, lambda d: d["parts"]["head"]["selector"].update(most=True)), "most"),
        (lambda f: edit(f, lambda d: d["parts"]["head"].update(units=2**40)), "units"),
        (lambda f: edit(f, lambda d: d["parts"]["head"].update(extra=1)), "extra"),
        (lambda f: edit(f, lambda d: d["parts"]["head"]["selector"].pop("name")), "unknown selector None"),
        (lambda f: edit(f, lambda d: d.update(model="a\ud800b")), "half of a character"),
        (lambda f: edit(f, lambda d: d.update(head="a\nb\x1b[2J")), r"way a b\\x1b\[2J"),
        (lambda f: (f / FILE_NAME).write_text("[]"), "Expected `object`"),
        (lambda f: (f / FILE_NAME).write_text("[" * 100_000), "not JSON"),
        (lambda f: (f / FILE_NAME).write_text(" " * (2 << 20)), "larger than"),
        (lambda f: next(f.glob("*.safetensors")).write_bytes(b"short"), "5 bytes instead of"),
        (lambda f: next(f.glob("*.safetensors")).unlink(), "cannot be read"),
        (change_tensor, "contents have changed"),
    ],
)
def test_damage_is_refused_in_one_line(saved, damage, message):
    damage(saved[1])
    with pytest.raises(RecipeError, match=message) as caught:
        recipes.load(saved[1], "f00d")
    assert "\n" not in str(caught.value)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.data())
def test_any_changed_byte_of_the_json_is_survived(saved, data):
    recipe, folder = saved
    recipes.save(recipe, folder)
    path = folder / FILE_NAME
    text = bytearray(path.read_bytes())
    text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(text)
    with contextlib.suppress(RecipeError):
        recipes.load(folder, "f00d")


def test_a_selector_that_needs_what_the_estimator_lacks_is_refused():
    with pytest.raises(
        UsageError, match=r"certified needs the bound .* low_rank does not give; .* bit_planes"
    ):
        part(LowRank(32), Certified())


def test_default_folder_is_in_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SHORTLIST_HOME", str(tmp_path))
    assert recipes.default_folder("f00d") == tmp_path / "recipes" / "f00d"


def test_what_is_shown_of_a_recipe():
    recipe = Recipe("tiny", "f00d", {}, head="estimated", ffn="dense")
    assert repr(recipe) == "<Recipe of tiny: head estimated, ffn dense, 0 parts>"
    assert repr(Recipe("tiny", "f00d", {})) == "<Recipe of tiny: 0 parts>"


def test_the_weights_of_a_model_in_the_same_folder_are_left_alone(saved):
    recipe, folder = saved
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / f"{'0' * 16}.safetensors").write_bytes(b"an older recipe's")
    recipes.save(recipe, folder)
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    assert len(list(folder.iterdir())) == 3


def test_what_a_killed_process_left_is_removed(saved):
    recipe, folder = saved
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    for name in (FILE_NAME, f"{'0' * 16}.safetensors"):
        (folder / f".{name}.{process.pid}-0123abcd").touch()
    recipes.save(recipe, folder)
    assert len(list(folder.iterdir())) == 2


def test_several_who_save_and_read_one_folder_at_once_always_find_a_whole_recipe(saved):
    _, folder = saved
    head = part(LowRank(32), Confidence())
    others = [
        Recipe("tiny", "f00d", {"head": dataclasses.replace(head, state=changed(head, i))}, {})
        for i in range(3)
    ]

    def work(number):
        for _ in range(30):
            recipes.save(others[number], folder)
            assert "head" in recipes.load(folder, "f00d").parts

    with ThreadPoolExecutor(len(others)) as pool:
        list(pool.map(work, range(len(others))))
    assert len(list(folder.iterdir())) == 2


def changed(head, number):
    return {**head.state, "residual": head.state["residual"] + np.float32(number)}
