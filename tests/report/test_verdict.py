import pytest
from report_example import example_figures

from shortlist.report.verdict import (
    LEAST_SAVED,
    SAME_SPEED,
    called,
    differing,
    interval,
    percent,
    speed,
    terms,
    verdict,
)


def figures(name="estimated", peer=True, **changes):
    """The example, its shortlisted point changed."""
    found = example_figures()
    dense, own = found["speed"]["points"]
    found["speed"]["points"] = [dense, own | {"name": name} | changes]
    found["strip"]["head"] = name
    if not peer:
        found["speed"]["peer"] = {"name": "llama.cpp", "error": "not installed"}
    return found


def test_a_gain_is_said_with_speed_bytes_and_tokens():
    found = verdict(figures())
    assert found.headline == (
        "17 % faster than reading everything; it reads 23 % less "
        "and chose another token at 1 of 384 positions."
    )
    assert found.sentences == [
        "The estimated head writes 210 tokens a second, dense 180: it is 1.17 times as fast.",
        "For each token it reads 74.0 MB of weights, dense 96.0 MB: 23 % less.",
        "Taking the likeliest token each time, it chose another one than dense at 1 of 384 positions.",
        "Perplexity changes by −0.20 % ± 0.20 %: the text is predicted better.",
        "llama.cpp writes 90.0 tokens a second from the same file: the estimated head is 2.33 times as fast.",
    ]


def test_the_same_text_is_said():
    found = verdict(figures(agreement=1.0))
    assert found.headline.endswith("reads 23 % less and chose the same token at all 384 positions.")
    assert found.sentences[2].endswith(
        "the same one as dense at all 384 positions. On other text it may differ."
    )
    exact = verdict(figures("exact", agreement=1.0, perplexity_change=0.0, perplexity_change_error=0.0))
    assert exact.sentences[0].startswith("The exact head writes")
    assert exact.sentences[2].endswith("That is provably always so.")
    assert exact.sentences[3] == "Perplexity is the same."


@pytest.mark.parametrize(
    ("tokens_per_s", "headline", "sentence"),
    [
        (186, "3 % faster than", "it is 1.03 times as fast."),
        (185, "About as fast as", "two runs of one program may differ by as much."),
        (175, "About as fast as", "two runs of one program may differ by as much."),
        (174, "3 % slower than", "it is slower."),
    ],
)
def test_small_differences_of_speed_are_none(tokens_per_s, headline, sentence):
    assert SAME_SPEED == 0.03
    found = verdict(figures(tokens_per_s=float(tokens_per_s)))
    assert found.headline.startswith(headline)
    assert found.sentences[0].endswith(sentence)


def test_a_loss_is_called_one():
    slower = verdict(figures(tokens_per_s=90.0))
    assert (
        slower.headline == "50 % slower than reading everything here, although it reads 23 % less: use dense."
    )
    useless = verdict(figures(tokens_per_s=90.0, bytes_per_token=97e6))
    assert useless.headline == "50 % slower than reading everything here, and it reads no less: use dense."
    assert (
        useless.sentences[1] == "For each token it reads 97.0 MB of weights, dense 96.0 MB: nothing is saved."
    )


def test_savings_that_round_to_nothing_are_none():
    assert LEAST_SAVED == 0.005
    assert "reads no less" in verdict(figures(bytes_per_token=96e6 * 0.9951)).headline
    assert "reads 1 % less" in verdict(figures(bytes_per_token=96e6 * 0.995)).headline


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (0.004, 0.001, "+0.40 % ± 0.20 %: the text is predicted worse."),
        (0.0019, 0.001, "+0.19 % ± 0.20 %, which may be chance."),
        (-0.0019, 0.001, "−0.19 % ± 0.20 %, which may be chance."),
        (-0.002, 0.001, "−0.20 % ± 0.20 %: the text is predicted better."),
    ],
)
def test_a_change_within_its_interval_may_be_chance(change, error, said):
    found = verdict(figures(perplexity_change=change, perplexity_change_error=error))
    assert found.sentences[3] == f"Perplexity changes by {said}"


def test_a_model_that_is_only_dense_says_what_to_do():
    found = example_figures()
    found["speed"]["points"] = found["speed"]["points"][:1]
    found["strip"]["head"] = "dense"
    said = verdict(found)
    assert said.headline.startswith("There is nothing to compare")
    assert said.sentences == [
        "Dense writes 180 tokens a second and reads 96.0 MB of weights for each.",
        "llama.cpp writes 90.0 tokens a second from the same file: dense is 2.00 times as fast.",
        "To try a shortlist, run shortlist fit MODEL and then write this report again.",
    ]


def test_a_peer_that_was_not_measured_is_left_out():
    assert not any("llama.cpp" in sentence for sentence in verdict(figures(peer=False)).sentences)


def test_the_recipe_is_what_the_report_is_about_where_there_is_one():
    found = figures("recipe")
    found["speed"]["points"].insert(1, found["speed"]["points"][0] | {"name": "exact", "tokens_per_s": 1.0})
    assert verdict(found).sentences[0].startswith("The recipe writes 210")
    assert called("recipe") == "The recipe"


def test_numbers_are_round():
    assert [percent(share) for share in (0, 0.0001, 0.014, 0.016, 1)] == ["0 %", "1 %", "1 %", "2 %", "100 %"]
    assert [speed({"tokens_per_s": value}) for value in (5.678, 9.999, 10, 99.94, 100, 1234.5)] == [
        *("5.68", "10.00", "10.0", "99.9", "100", "1,234")
    ]
    assert interval({"perplexity_change": -0.01, "perplexity_change_error": 0.01}) == "−1.00 % ± 1.96 %"
    assert differing({"positions": 384, "agreement": 380 / 384}) == 4


def test_only_words_that_are_used_are_defined():
    assert "exact" not in terms(["dense", "estimated"])
    assert {"dense", "recipe", "recall"} <= set(terms(["dense", "recipe"]))
    assert list(terms(["dense"]))[:4] == ["token", "weights", "head", "dense"]
