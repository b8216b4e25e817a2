"""The page of what runs where says what the code does."""

from scripts import reach_table

from shortlist.sites.base import SITES


def test_the_page_is_that_of_the_code():
    written = reach_table.PAGE.read_text(encoding="utf-8")
    assert written == reach_table.page(), "run python scripts/reach_table.py"


def test_every_pair_runs_or_is_refused_with_a_reason():
    for kind in SITES:
        for pair, reach in reach_table.reaches(kind).items():
            assert (reach.how == "refused") == (reach.reason is not None), (kind, pair)


def test_how_many_pairs_run():
    runs = {
        kind: [pair for pair, reach in reach_table.reaches(kind).items() if reach.reason is None]
        for kind in SITES
    }
    assert len(runs["head"]) >= 40
    assert ("low_rank", "confidence") in runs["head"]
    assert ("bit_planes", "confidence") not in runs["head"]
    assert sorted(runs["neurons"]) == [
        ("exact", "statistical_top_k"),
        ("exact", "threshold"),
        ("int4_copy", "threshold"),
    ]
    assert all(runs[kind] == [("magnitude", "threshold")] for kind in ("qkv", "o", "gate_up", "down"))
