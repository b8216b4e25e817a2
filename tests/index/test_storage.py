"""The contents of an index file, and files that are refused."""

import json

import numpy as np
import pytest
import safetensors.numpy

from shortlist.estimators import LowRank
from shortlist.index import Index, IndexFileError
from shortlist.index.storage import KEY


def filled(metric="inner_product", rows="float32", fit=True) -> Index:
    random = np.random.default_rng(0)
    index = Index(40, metric=metric, rows=rows)
    index.add(random.standard_normal((300, 40)))
    if fit:
        index.fit(random.standard_normal((100, 40)), LowRank(rank=12))
        index.add(random.standard_normal((7, 40)))
    return index


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "vectors.index"
    filled().save(path)
    return path


def rewrite(path, change_document=None, change_arrays=None):
    """The file again, with its JSON and its arrays changed."""
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    document = json.loads(metadata[KEY])
    if change_document:
        change_document(document)
    if change_arrays:
        change_arrays(arrays)
    safetensors.numpy.save_file(arrays, path, {KEY: json.dumps(document)})


@pytest.mark.parametrize("fit", [True, False])
@pytest.mark.parametrize("rows", ["float32", "int8"])
@pytest.mark.parametrize("metric", ["inner_product", "cosine"])
def test_a_loaded_index_answers_as_the_saved_one(tmp_path, metric, rows, fit):
    index = filled(metric, rows, fit)
    index.save(tmp_path / "i")
    loaded = Index.load(tmp_path / "i")
    assert (loaded.width, loaded.metric, loaded.rows) == (40, metric, rows)
    assert (len(loaded), loaded.fitted) == (len(index), index.fitted)
    queries = np.random.default_rng(1).standard_normal((9, 40))
    for keep in (0.05, 1):
        for got, expected in zip(
            loaded.search(queries, 5, keep), index.search(queries, 5, keep), strict=True
        ):
            np.testing.assert_array_equal(got, expected)
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "i").read_bytes()


def test_an_empty_index_comes_back_empty(tmp_path):
    Index(5, rows="int8").save(tmp_path / "i")
    loaded = Index.load(tmp_path / "i")
    assert (len(loaded), loaded.width, loaded.rows) == (0, 5, "int8")


def test_saving_replaces_the_file_and_leaves_nothing_else(saved):
    filled(fit=False).save(saved)
    assert Index.load(saved).fitted == 0
    assert list(saved.parent.iterdir()) == [saved]


def test_a_failed_save_keeps_the_old_file(saved, monkeypatch):
    def fail(arrays, path, metadata):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    before = saved.read_bytes()
    monkeypatch.setattr(safetensors.numpy, "save_file", fail)
    with pytest.raises(IndexFileError, match=r"cannot be written to .*vectors.index: No space left"):
        filled().save(saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_missing_folder_is_one_clear_error(tmp_path):
    with pytest.raises(IndexFileError, match="cannot be written to"):
        filled().save(tmp_path / "nowhere" / "i")
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(IndexFileError, match="there is no index at"):
            Index.load(path)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"not an index")
    with pytest.raises(IndexFileError, match="is damaged"):
        Index.load(path)
    safetensors.numpy.save_file({"a": np.ones(3)}, path)
    with pytest.raises(IndexFileError, match="is no index of shortlist"):
        Index.load(path)


def test_every_truncation_is_refused(saved):
    whole = saved.read_bytes()
    for length in [*range(0, 64), len(whole) // 2, len(whole) - 1]:
        saved.write_bytes(whole[:length])
        with pytest.raises(IndexFileError):
            Index.load(saved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "version 2 and this program reads 1: update shortlist"),
        ({"version": None}, "version"),
        ({"width": 41}, "holds the arrays"),
        ({"count": 308}, "holds the arrays"),
        ({"count": 1 << 40}, "count"),
        ({"count": True}, "count"),
        ({"fitted": 301}, "codes of low_rank"),
        ({"fitted": 308}, "contradict"),
        ({"fitted": 0}, "contradict"),
        ({"width": -1}, "width"),
        ({"metric": "euclidean"}, "Invalid enum value .euclidean. - at .*metric"),
        ({"rows": "int4"}, "rows int4"),
        ({"rows": ["float32"]}, "is damaged"),
        ({"estimator": {"name": "oracle"}}, "unknown estimator oracle .*update shortlist"),
        ({"estimator": {"name": "low_rank", "depth": 3}}, "depth"),
        ({"estimator": {"name": "low_rank", "rank": 400}}, "rank 400"),
        ({"estimator": {}}, "unknown estimator None"),
        ({"estimator": None}, "is damaged"),
    ],
    ids=str,
)
def test_a_changed_description_is_refused(saved, changes, message):
    rewrite(saved, change_document=lambda document: document.update(changes))
    with pytest.raises(IndexFileError, match=message) as caught:
        Index.load(saved)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: arrays.pop("vectors"),
        lambda arrays: arrays.pop("state.codes"),
        lambda arrays: arrays.update(extra=np.ones(3)),
        lambda arrays: arrays.update(vectors=arrays["vectors"].astype(np.float64)),
        lambda arrays: arrays["vectors"].__setitem__((2, 3), np.nan),
        lambda arrays: arrays["state.residual"].__setitem__(5, np.inf),
    ],
)
def test_changed_arrays_are_refused(saved, change):
    rewrite(saved, change_arrays=change)
    with pytest.raises(IndexFileError, match="is damaged"):
        Index.load(saved)
