import numpy as np
import pytest

from shortlist.errors import UsageError
from shortlist.estimators.base import Scores
from shortlist.selectors import Threshold

VALUES = np.float32([-1.0, 0.5, 1.0, 2.0])
MARGINS = np.float32([1.0, 0.25, 0.0, 0.5])


def chosen(selector, **parts):
    return selector.select(Scores(VALUES, **parts), lambda indices: 10 * VALUES[indices]).indices.tolist()


def test_what_an_estimate_may_be_at_most_reaches_the_threshold():
    assert chosen(Threshold(1.0)) == [2, 3]
    assert chosen(Threshold(1.0, sigma=2.0), margins=MARGINS) == [0, 1, 2, 3]
    assert chosen(Threshold(1.0, sigma=1.9), margins=MARGINS) == [2, 3]
    assert chosen(Threshold(1.25, sigma=2.0), margins=MARGINS) == [3]


def test_a_spread_is_needed_where_it_is_allowed_for():
    assert Threshold(1.0).needs is None
    assert Threshold(1.0, sigma=1.0).needs == "confidence"
    with pytest.raises(UsageError, match="threshold needs a confidence"):
        Threshold(1.0, sigma=1.0).check("random", None)


@pytest.mark.parametrize("sigma", [-0.1, float("inf"), float("nan")])
def test_a_sigma_is_0_or_more(sigma):
    with pytest.raises(UsageError, match="sigma of 0 or more"):
        Threshold(1.0, sigma=sigma)
