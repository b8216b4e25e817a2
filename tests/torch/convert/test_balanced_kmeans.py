"""Clusters of equal size, and what changes in them when calibration points are left out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shortlist.torch.convert.balanced_kmeans import assign, balanced_kmeans, churn, directions, label_churn


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 100))
def test_all_clusters_have_the_same_size(clusters, size, seed):
    points = np.random.default_rng(seed).standard_normal((clusters * size, 3))
    labels = balanced_kmeans(points, clusters, seed)
    assert np.bincount(labels, minlength=clusters).tolist() == [size] * clusters


def test_well_apart_clusters_are_found():
    centres = np.eye(4)[:3] * 10
    points = np.repeat(centres, 8, axis=0) + 0.1 * np.random.default_rng(0).standard_normal((24, 4))
    assert churn(balanced_kmeans(points, 3), np.repeat([0, 1, 2], 8)) == 0


def test_points_that_are_all_the_same_are_cut_all_the_same():
    assert np.bincount(balanced_kmeans(np.ones((6, 2)), 3)).tolist() == [2, 2, 2]


def test_the_closest_pairs_come_first():
    distances = np.array([[1.0, 5.0], [0.0, 2.0], [3.0, 4.0]])
    assert assign(distances, 2).tolist() == [0, 0, 1]


@given(st.permutations(range(4)))
def test_other_names_for_the_same_clusters_are_no_churn(names):
    labels = np.array([0, 1, 2, 3, 3, 2, 1, 0])
    assert churn(labels, np.array(names)[labels]) == 0


def test_churn_is_the_share_that_moved():
    assert churn(np.array([0, 0, 0, 1, 1, 1]), np.array([1, 1, 0, 0, 0, 0])) == pytest.approx(1 / 6)


def test_clear_clusters_do_not_depend_on_single_points_and_noise_does():
    rng = np.random.default_rng(0)
    kinds = np.repeat(np.eye(3), 8, axis=0)
    clear = kinds @ rng.standard_normal((3, 60)) + 0.05 * rng.standard_normal((24, 60))
    noise = rng.standard_normal((24, 60))
    assert label_churn(clear, 3, 0.2, 3) == 0
    assert label_churn(noise, 3, 0.2, 3) > 0.05


def test_directions_have_length_one_and_a_silent_neuron_none():
    found = directions(np.array([[1.0, 2.0, 6.0], [3.0, 3.0, 3.0]]))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), [1, 0])
    np.testing.assert_allclose(found.sum(axis=1), 0, atol=1e-12)
