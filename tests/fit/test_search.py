"""The loop over tuners: what is kept of their changes, what each may still cost, and what is lowered."""

from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from shortlist.estimators import BitPlanes, Magnitude
from shortlist.fit import search as module
from shortlist.fit.search import Search
from shortlist.fit.tuner import Change, Tuner, Work
from shortlist.selectors import Certified, Threshold
from shortlist.sites.base import Part

EXACT = Part(BitPlanes(), Certified(), 9, 9, {})


def channels(threshold):
    return Part(Magnitude(False), Threshold(threshold), 9, 9, {})


class Fake(Tuner):
    """Makes the changes that its class lists; remembers what it was given."""

    made: ClassVar[list] = []
    told: ClassVar[dict] = {}
    in_the_end = True

    def changes(self, base, limit):
        self.notes.update(self.told)
        type(self).seen = (dict(base.sites), limit)
        for change in self.made:
            if change is None:
                raise KeyboardInterrupt
            yield change

    def pays(self, base, recipe):
        return self.in_the_end

    def lower(self, change):
        return Change({"layers.0.o": channels(0.1)}, change.loss / 2) if change.loss > 1 else None


def fake(made, **options) -> Any:
    return type("Fake", (Fake,), {"made": made, **options})


@pytest.fixture
def search(monkeypatch):
    """A search with these tuners, on a model without neurons to leave out, with 10 nats to spend."""
    monkeypatch.setattr(module, "sites_of", lambda checkpoint, kind: [])
    work: Any = SimpleNamespace(name="tiny", checkpoint=SimpleNamespace(fingerprint="f00d"))

    def make(*tuners):
        monkeypatch.setattr(module, "TUNERS", tuners)
        return Search(work, 10.0)

    return make


def sites(search):
    return [dict(rung.recipe.sites) for rung in search.rungs]


def test_changes_pile_up_and_what_they_cost_is_spent(search):
    head = fake([Change({"head": EXACT}, 1.0), Change({"layers.0.qkv": channels(0.5)}, 2.0, {"a": 1})])
    last = fake([Change({"layers.0.o": channels(0.3)}, 4.0, {"b": 2})])
    found = search(head, last)
    found.run()
    assert sites(found) == [
        {"head": None},
        {"head": EXACT},
        {"head": None, "layers.0.qkv": channels(0.5)},
        {"head": None, "layers.0.qkv": channels(0.5), "layers.0.o": channels(0.3)},
    ]
    assert head.seen == ({"head": None}, 10.0)
    assert last.seen == ({"head": None, "layers.0.qkv": channels(0.5)}, 7.0)
    assert found.recipe.measured == {"a": 1, "b": 2}


def test_in_place_only_the_last_change_counts(search):
    made = [Change({"layers.0.o": channels(t)}, 3 * t, {"at": t}) for t in (1.0, 2.0)]
    after = fake([])
    found = search(fake(made, in_place=True), after)
    found.run()
    assert sites(found) == [{"head": None}, {"head": None, "layers.0.o": channels(2.0)}]
    assert after.seen[1] == 4.0
    assert found.recipe.measured == {"at": 2.0}


def test_what_does_not_pay_in_the_end_is_dropped_and_costs_nothing(search):
    tuner = fake([Change({"layers.0.o": channels(1.0)}, 3.0)], in_the_end=False, told={"seconds": 5})
    after = fake([])
    found = search(tuner, after)
    found.run()
    assert sites(found) == [{"head": None}]
    assert after.seen == ({"head": None}, 10.0)
    assert found.recipe.measured == {"seconds": 5}, "what was measured is told all the same"


def test_nothing_is_timed_where_nothing_was_found(search):
    def never(*_):
        raise AssertionError

    found = search(fake([], pays=never), fake([Change({"head": EXACT}, 0.0)]))
    found.run()
    assert sites(found) == [{"head": None}, {"head": EXACT}]


def test_an_interrupt_keeps_what_was_found_and_noted(search):
    found = search(fake([Change({"head": EXACT}, 0.0), None], told={"seconds": 5}), fake([]))
    with pytest.raises(KeyboardInterrupt):
        found.run()
    assert sites(found) == [{"head": None}, {"head": EXACT}]
    assert found.recipe.measured == {"seconds": 5}


def test_lowering_asks_the_tuner_and_starts_from_its_base(search):
    head, layers = Change({"head": EXACT}, 0.0), Change({"layers.0.o": channels(1.0)}, 3.0, {"at": 1.0})
    found = search(fake([head]), fake([layers], in_place=True))
    found.run()
    found.lower()
    assert sites(found)[-1] == {"head": EXACT, "layers.0.o": channels(0.1)}
    assert found.recipe.measured == {}, "what was measured of the change went with it"
    found.lower()
    found.lower()
    assert sites(found)[-1] == {"head": EXACT}
    found.lower()
    assert sites(found) == [{"head": None}]


def test_a_decoder_is_made_where_a_layer_has_a_shortlist():
    made = []

    def make(**options):
        made.append(options)
        return options

    tokenizer = SimpleNamespace(encode=lambda text, **_: [1])
    checkpoint: Any = None
    work = Work(checkpoint, make, tokenizer, "tiny", "text")  # pyright: ignore[reportArgumentType]
    assert work.dense == {"ffn": "dense"}
    assert work.decoder({"head": EXACT, "layers.0.neurons": None}) is work.dense
    parts = {"head": None, "layers.0.o": channels(0.5), "layers.0.neurons": None}
    assert work.decoder(parts) == {"parts": parts}
    assert len(made) == 2
