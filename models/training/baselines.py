"""What the shipped detector has to beat: a textbook detector, and an autoencoder."""

import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Score = Callable[[Floats], Floats]

VARIANCE = 0.9
"""Share of the variance that the principal components keep."""
QUANTILE = 0.99


def pca(x: Floats) -> tuple[Score, float]:
    """Hotelling's T² and Q of single rows, each over its own quantile; the larger one counts.

    Args:
        x: float64[n, d], healthy rows.

    Returns:
        A function float64[m, d] -> float64[m], and the limit (the 0.99 quantile in training).

    Source:
        Jackson and Mudholkar 1979; limits by quantile instead of by the F and normal theory.
    """
    x = x[np.isfinite(x).all(axis=1)]
    centre, scale = x.mean(axis=0), x.std(axis=0)
    scale = np.where(scale > 1e-12, scale, 1.0)
    z = (x - centre) / scale
    _, size, axes = np.linalg.svd(z, full_matrices=False)
    share = np.cumsum(size**2) / np.sum(size**2)
    keep = int(np.searchsorted(share, VARIANCE)) + 1
    axes, variance = axes[:keep], size[:keep] ** 2 / len(z)

    def both(rows: Floats) -> tuple[Floats, Floats]:
        away = (np.nan_to_num(rows, nan=0.0) - centre) / scale
        along = away @ axes.T
        return (along**2 / variance).sum(axis=1), ((away - along @ axes) ** 2).sum(axis=1)

    inside, outside = both(x)
    top, rest = np.quantile(inside, QUANTILE), max(float(np.quantile(outside, QUANTILE)), 1e-12)

    def score(rows: Floats) -> Floats:
        t2, q = both(rows)
        return np.maximum(t2 / top, q / rest)

    return score, float(np.quantile(score(x), QUANTILE))


def autoencoder(x: Floats, seed: int = 0) -> tuple[Score, float]:
    """Reconstruction error of a small neural autoencoder.

    Args:
        x: float64[n, d], healthy features.
        seed: Of its weights.

    Returns:
        As `pca`.
    """
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415 - slow to import
    from sklearn.neural_network import MLPRegressor  # noqa: PLC0415 - slow to import

    x = x[np.isfinite(x).all(axis=1)]
    centre, scale = x.mean(axis=0), x.std(axis=0)
    scale = np.where(scale > 1e-12, scale, 1.0)
    d = x.shape[1]
    net = MLPRegressor(
        hidden_layer_sizes=(max(4, d), max(2, d // 3), max(4, d)),
        activation="tanh",
        early_stopping=True,
        max_iter=300,
        random_state=seed,
    )
    z = (x - centre) / scale
    with warnings.catch_warnings():
        # It is stopped after a bounded number of rounds, finished or not.
        warnings.simplefilter("ignore", ConvergenceWarning)
        net.fit(z, z)

    def score(rows: Floats) -> Floats:
        away = (np.nan_to_num(rows, nan=0.0) - centre) / scale
        error = away - net.predict(away)
        out: Floats = np.sqrt(np.mean(error**2, axis=1))
        return out

    return score, float(np.quantile(score(x), QUANTILE))
