import gguf
import numpy as np
import pytest

from shortlist.checkpoints.base import TYPES
from shortlist.measure.random_blocks import random_rows

KINDS = [kind.name for kind in TYPES.values() if kind.quantized and kind.number is not None]


@pytest.mark.parametrize("name", KINDS)
def test_weights_have_mean_0_and_deviation_of_a_normed_product(name: str) -> None:
    rows, columns, kind = 256, 512, gguf.GGMLQuantizationType[name]
    data = random_rows(np.random.default_rng(1), rows, columns, kind)
    weights = gguf.quants.dequantize(data, kind)
    assert weights.shape == (rows, columns)
    assert abs(weights.mean()) < 0.02 * columns**-0.5
    if name == "MXFP4":  # whose scales are powers of two
        assert 0.49 * columns**-0.5 < weights.std() < 1.02 * columns**-0.5
    else:
        assert weights.std() == pytest.approx(columns**-0.5, rel=0.03)


def test_same_generator_gives_the_same_rows() -> None:
    kind = gguf.GGMLQuantizationType.Q3_K
    one, two = (random_rows(np.random.default_rng(3), 4, 256, kind) for _ in range(2))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, random_rows(np.random.default_rng(4), 4, 256, kind))
