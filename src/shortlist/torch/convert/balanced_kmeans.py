"""K-means with clusters of equal size, and its sensitivity to single calibration points."""

from __future__ import annotations

import numpy as np

ITERATIONS = 10


def balanced_kmeans(points: np.ndarray, clusters: int, seed: int = 0) -> np.ndarray:
    """Cluster points into clusters of equal size, as MoEfication does (https://arxiv.org/abs/2110.01786).

    Parameters
    ----------
    points : float [n, dimensions]
    clusters
        Number of clusters, a divisor of n.
    seed
        Seed of the first centroids (k-means++).

    Returns
    -------
    int64 [n]
        Cluster of each point.
    """
    assert len(points) % clusters == 0
    centroids = _spread_start(points, clusters, np.random.default_rng(seed))
    labels = assign(_distances(points, centroids), len(points) // clusters)
    for _ in range(ITERATIONS):
        centroids = np.stack([points[labels == c].mean(axis=0) for c in range(clusters)])
        moved = assign(_distances(points, centroids), len(points) // clusters)
        if np.array_equal(moved, labels):
            break
        labels = moved
    return labels


def assign(distances: np.ndarray, size: int) -> np.ndarray:
    """Assign a column to every row, closest pairs first; a column takes `size` rows: int64 [rows]."""
    rows, columns = distances.shape
    assert rows <= columns * size
    labels, room = [-1] * rows, [size] * columns
    for pair in np.argsort(distances, axis=None, kind="stable").tolist():
        row, column = divmod(pair, columns)
        if labels[row] < 0 and room[column]:
            labels[row] = column
            room[column] -= 1
    return np.array(labels)


def churn(labels: np.ndarray, others: np.ndarray) -> float:
    """Share of points that change clusters, after clusters are matched by their largest overlaps."""
    count = int(max(labels.max(), others.max())) + 1
    shared = np.zeros((count, count))
    np.add.at(shared, (labels, others), 1)
    matched = assign(-shared, 1)
    return float(np.mean(matched[labels] != others))


def label_churn(profiles: np.ndarray, clusters: int, drop: float, repeats: int, seed: int = 0) -> float:
    """Mean churn when calibration points are left out: the average sensitivity of the clustering.

    After Yoshida and Ito, Average Sensitivity of Euclidean k-Clustering, NeurIPS 2022.

    Parameters
    ----------
    profiles : float [n, calibration points]
        Value of each point to be clustered at each calibration point.
    clusters
        Number of clusters, a divisor of n.
    drop
        Share of the calibration points that is left out, drawn anew in each of `repeats`.

    Returns
    -------
    float
        Mean share of the n labels that change.
    """
    rng = np.random.default_rng(seed)
    labels = balanced_kmeans(directions(profiles), clusters, seed)
    changes = []
    for _ in range(repeats):
        kept = rng.permutation(profiles.shape[1])[: round((1 - drop) * profiles.shape[1])]
        changes.append(churn(labels, balanced_kmeans(directions(profiles[:, kept]), clusters, seed)))
    return float(np.mean(changes))


def directions(profiles: np.ndarray) -> np.ndarray:
    """Profiles minus their mean, scaled to norm 1: distances then measure correlation."""
    centred = profiles - profiles.mean(axis=1, keepdims=True)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)


def _spread_start(points: np.ndarray, clusters: int, rng: np.random.Generator) -> np.ndarray:
    """K-means++: each centroid is drawn in proportion to its squared distance from those before."""
    chosen = [int(rng.integers(len(points)))]
    nearest = _distances(points, points[chosen])[:, 0]
    while len(chosen) < clusters:
        total = nearest.sum()
        shares = nearest / total if total > 0 else np.full(len(points), 1 / len(points))
        chosen.append(int(rng.choice(len(points), p=shares)))
        nearest = np.minimum(nearest, _distances(points, points[chosen[-1:]])[:, 0])
    return points[chosen]


def _distances(points: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Squared distances [points, centroids]."""
    squares = (points**2).sum(axis=1)[:, None] + (centroids**2).sum(axis=1)
    return np.maximum(squares - 2 * points @ centroids.T, 0)
