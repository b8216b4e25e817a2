import copy

import pytest
from report_example import example_figures

from shortlist.report.plots import bytes_figure, layers_figure, recall_figure, short, speed_figure

pytest.importorskip("matplotlib")


@pytest.fixture
def figures():
    return example_figures()


def test_bars_are_labelled_with_megabytes(figures):
    svg = bytes_figure(figures["bytes"]["per_token"])
    for text in ("attention", "feed-forward", "head", ">50<", ">96 MB<", ">74 MB<"):
        assert text in svg


def test_lines_of_estimators_are_named(figures):
    svg = recall_figure("head", figures["recall"]["head"]["methods"], "top-32")
    for text in ("low rank", "random", "exact: all of it", "recall, top-32"):
        assert text in svg


def test_a_frontier_of_a_slower_day_is_drawn_in_proportion_to_dense(figures):
    speed = figures["speed"]
    dense, tuned = {"name": "dense", "tokens_per_s": 180.0, "perplexity_change": 0.0}, speed["frontier"][0]
    speed["frontier"] = [dense, tuned]
    slower = copy.deepcopy(speed)
    for point in slower["frontier"]:
        point["tokens_per_s"] /= 2
    assert speed_figure(slower) == speed_figure(speed)
    slower["frontier"] = slower["frontier"][1:]  # without its dense nothing is known of that day
    assert speed_figure(slower) != speed_figure({**speed, "frontier": [tuned]})


def test_points_are_named_and_a_missing_peer_is_left_out(figures):
    speed = figures["speed"]
    assert all(text in speed_figure(speed) for text in (">dense<", ">estimated<", "llama.cpp, speed only"))
    speed["peer"] = {"name": "llama.cpp", "error": "not installed"}
    assert "llama.cpp" not in speed_figure(speed)


def test_kinds_of_channels_have_a_line_each(figures):
    svg = layers_figure(figures["layers"]["channels"])
    assert all(text in svg for text in (">qkv<", ">o<", ">gate and up<", ">down<", "input channels read"))


def test_small_sizes_keep_two_digits():
    assert [short(count) for count in (0.114, 3.456, 9.99, 10, 96.4, 0)] == [
        "0.11",
        "3.5",
        "10",
        "10",
        "96",
        "0",
    ]


def test_a_part_is_labelled_where_there_is_room(figures):
    per_token = figures["bytes"]["per_token"]
    per_token["dense"]["attention"] = 0.08 * 88e6  # a part narrower than 9 % of the longest bar has none
    per_token["dense"]["head"] = 31e6
    svg = bytes_figure(per_token)
    assert ">31<" in svg
    assert ">7<" not in svg
    assert ">16<" in svg  # of the other bar
