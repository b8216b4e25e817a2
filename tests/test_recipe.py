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
from shortlist.estimators import BitPlanes, Exact, Int4Copy, LowRank, Magnitude
from shortlist.recipe import FILE_NAME, Recipe
from shortlist.selectors import Certified, Confidence, Threshold, TopK
from shortlist.sites.base import Part
from shortlist.sites.neurons import FIRES

UNITS, WIDTH = 12, 64


def part(estimator, selector):
    rng = np.random.default_rng(0)
    table, queries = (rng.standard_normal((n, WIDTH)).astype(np.float32) for n in (UNITS, 80))
    state = {} if estimator.from_table else estimator.fit(table, queries)
    return Part(estimator, selector, UNITS, WIDTH, state)


def channels(**options):
    return Part(Magnitude(False, **options), Threshold(0.25), UNITS, WIDTH, {})


NEURONS = Part(Exact(), Threshold(FIRES), UNITS, WIDTH, {})


@pytest.fixture
def saved(tmp_path):
    """A recipe and the folder that it was saved to."""
    head = part(LowRank(32), Confidence(sigma=5.5))
    sites = {"head": head, "layers.0.o": channels(), "layers.0.neurons": None, "layers.1.neurons": NEURONS}
    spare = {"head": part(LowRank(16), Confidence(sigma=4.5))}
    recipe = Recipe("tiny", "f00d", sites, {"head": {"recall": 0.999}}, spare)
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
    assert loaded.sites.keys() == recipe.sites.keys()
    pairs = [(loaded.sites[name], want) for name, want in recipe.sites.items()]
    for found, want in [*pairs, (loaded.alternatives["head"], recipe.alternatives["head"])]:
        if want is None:
            assert found is None
            continue
        assert (found.estimator, found.selector) == (want.estimator, want.selector)
        assert found.state.keys() == want.state.keys()
        for name, array in want.state.items():
            np.testing.assert_array_equal(found.state[name], array)
            assert found.state[name].dtype == array.dtype


@pytest.mark.parametrize("version", [1, 2])
def test_an_older_recipe_is_refused_with_the_line_that_makes_a_new_one(saved, version):
    edit(saved[1], lambda document: document.update(version=version, model="small-1b"))
    again = "make a new one with shortlist fit small-1b, or shortlist tune small-1b"
    with pytest.raises(RecipeError, match=f"is of version {version}, .*: {again}"):
        recipes.load(saved[1], "f00d")


def test_what_a_recipe_says_of_sites(saved):
    recipe = saved[0]
    assert recipe.shortlisted.keys() == {"head", "layers.0.o", "layers.1.neurons"}
    assert recipe.layers.keys() == {"layers.0.o", "layers.0.neurons", "layers.1.neurons"}
    assert recipe.head == "estimated"
    assert Recipe("tiny", "f00d", {"head": None}).head == "dense"
    assert Recipe("tiny", "f00d", {"layers.0.o": channels()}).head is None


def test_no_state_is_kept_that_the_table_makes_alone(tmp_path):
    exact = Part(BitPlanes(), Certified(), UNITS, WIDTH, {})
    recipes.save(Recipe("tiny", "f00d", {"head": exact}), tmp_path)
    assert next(tmp_path.glob("*.safetensors")).stat().st_size < 100
    found = recipes.load(tmp_path, "f00d").sites["head"]
    assert found is not None
    assert (found.state, found.way) == ({}, "exact")
    with pytest.raises(ValueError, match="low_rank has the arrays"):
        Part(LowRank(32), Confidence(), UNITS, WIDTH, {})


@pytest.mark.parametrize(
    ("site", "found", "message"),
    [
        ("layers.0.o", Part(BitPlanes(), Certified(), 8, 8, {}), "bit_planes with certified has no native"),
        ("layers.0.neurons", Part(Exact(), Threshold(0.5), 8, 8, {}), "a neuron fires above 0"),
        ("layers.0.neurons", Part(Exact(), TopK(2), 8, 8, {}), "exact with top_k has no native kernel here"),
        ("layers.0.experts", Part(Int4Copy(), TopK(2), 8, 8, {}), "choose exact with top_k"),
        ("tail", None, "there is no site tail: name head, or one such as layers.N.neurons"),
        ("layers.0.head", None, "there is no site"),
        ("neurons", None, "there is no site"),
        ("layers.00.o", None, "there is no site"),
        ("layers.0.oo", None, "there is no site"),
    ],
)
def test_what_cannot_run_is_refused_before_it_is_written(site, found, message):
    with pytest.raises(UsageError, match=message):
        Recipe("tiny", "f00d", {site: found})
    with pytest.raises(UsageError, match=message):
        Recipe("tiny", "f00d", {}, {}, {site: found})


def test_what_cannot_run_is_refused_when_it_is_read_too(saved):
    def threshold(document):
        document["sites"]["layers.1.neurons"]["selector"]["threshold"] = 0.5

    edit(saved[1], threshold)
    with pytest.raises(RecipeError, match=r"recipe.json cannot run: layers\.1\.neurons .* fires above 0"):
        recipes.load(saved[1], "f00d")


@pytest.mark.parametrize("kind", ["gate_up", "down"])
def test_neurons_and_channels_of_one_layer_exclude_each_other(kind):
    with pytest.raises(UsageError, match=r"layers\.1\.neurons and the channels .* exclude each other"):
        Recipe("tiny", "f00d", {"layers.1.neurons": NEURONS, f"layers.1.{kind}": channels()})
    for other in (f"layers.0.{kind}", "layers.1.o"):
        Recipe("tiny", "f00d", {"layers.1.neurons": NEURONS, other: channels()})
    Recipe("tiny", "f00d", {"layers.1.neurons": None, f"layers.1.{kind}": channels()})


def test_saving_again_leaves_one_recipe_and_nothing_else(saved):
    _, folder = saved
    recipes.save(Recipe("tiny", "f00d", {"head": part(LowRank(33), Confidence(4.0))}), folder)
    assert len(list(folder.iterdir())) == 2
    assert recipes.load(folder, "f00d").sites["head"].selector == Confidence(4.0)


def test_failed_save_keeps_the_old_recipe(saved, monkeypatch):
    recipe, folder = saved

    def fail(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(RecipeError, match="No space left"):
        recipes.save(Recipe("tiny", "f00d", {"head": part(LowRank(33), Confidence(4.0))}), folder)
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
            lambda f: edit(f, lambda d: d["sites"].update(tail=None)),
            "cannot run: there is no site tail",
        ),
        (lambda f: edit(f, lambda d: d["sites"]["head"].update(way="exact")), "head is estimated, not exact"),
        (lambda f: edit(f, lambda d: d["sites"]["head"].update(way="guessed")), "guessed"),
        (lambda f: edit(f, lambda d: d["alternatives"].update(head=None)), "damaged: Expected `object"),
        (
            lambda f: edit(f, lambda d: d["sites"]["head"]["estimator"].update(name="oracle")),
            "unknown estimator",
        ),
        (
            lambda f: edit(f, lambda d: d["sites"]["head"]["selector"].update(name="oracle")),
            "unknown selector",
        ),
        (lambda f: edit(f, lambda d: d["sites"]["head"]["selector"].update(sigma="high")), "damaged"),
        (lambda f: edit(f, lambda d: d["sites"]["head"]["selector"].update(sigma=-1)), "sigma"),
        (lambda f: edit(f, lambda d: d["sites"]["head"]["estimator"].update(speed=9)), "damaged"),
        (lambda f: edit(f, lambda d: d["sites"]["head"].update(units=13)), "damaged: array"),
        (lambda f: edit(f, lambda d: d["sites"].update(head=d["sites"]["layers.0.o"])), "damaged"),
        (lambda f: edit(f, lambda d: d["tensors"].update(file="../x")), "not a file name"),
        (lambda f: edit(f, lambda d: d.pop("sites")), "damaged"),
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
        (lambda f: edit(f, lambda d: d["sites"]["head"]["selector"].update(probes=2**63)), "out of range"),
        (
            lambda f: edit(f, lambda d: d["sites"]["head"]["selector"].update(probes=2**31)),
            "<= 2147483647 - at .*selector",
        ),
        (lambda f: edit(f, lambda d: d["sites"]["head"]["selector"].update(probes=1.5)), "probes"),
        (lambda f: edit(f, lambda d: d["sites"]["head"]["selector"].update(most=True)), "most"),
        (lambda f: edit(f, lambda d: d["sites"]["head"].update(units=2**40)), "units"),
        (lambda f: edit(f, lambda d: d["sites"]["head"].update(extra=1)), "extra"),
        (lambda f: edit(f, lambda d: d["sites"]["head"]["selector"].pop("name")), "unknown selector None"),
        (lambda f: edit(f, lambda d: d.update(model="a\ud800b")), "half of a character"),
        (lambda f: edit(f, lambda d: d.update(version=2, model="a\nb\x1b[2J")), r"tune a b\\x1b\[2J"),
        (lambda f: (f / FILE_NAME).write_text("[]"), "Expected `object"),
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
        UsageError, match=r"certified needs a bound, which low_rank does not give; .* bit_planes"
    ):
        part(LowRank(32), Certified())


def test_default_folder_is_in_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SHORTLIST_HOME", str(tmp_path))
    assert recipes.default_folder("f00d") == tmp_path / "recipes" / "f00d"


def test_what_is_shown_of_a_recipe(saved):
    shown = "<Recipe of tiny: estimated head, exact neurons, 1 site by channel>"
    assert repr(saved[0]) == shown
    assert repr(Recipe("tiny", "f00d", {})) == "<Recipe of tiny: dense>"
    assert repr(Recipe("tiny", "f00d", {"head": None, "layers.0.neurons": None})) == "<Recipe of tiny: dense>"


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
            assert "head" in recipes.load(folder, "f00d").sites

    with ThreadPoolExecutor(len(others)) as pool:
        list(pool.map(work, range(len(others))))
    assert len(list(folder.iterdir())) == 2


def changed(head, number):
    return {**head.state, "residual": head.state["residual"] + np.float32(number)}
