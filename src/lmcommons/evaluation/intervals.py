"""Intervals for ratios of sums over documents, by the bootstrap (Efron & Tibshirani 1993, §13.3)."""

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95


def resample(sums: NDArray[np.float64], samples: int, seed: int) -> NDArray[np.float64]:
    """Totals of documents drawn with replacement: sums [documents, quantities] -> [samples, quantities].

    Documents, not tokens, are drawn, because the tokens of a document are not independent.
    """
    random = np.random.default_rng(seed)
    count = len(sums)
    return np.stack([sums[random.integers(0, count, count)].sum(axis=0) for _ in range(samples)])


def measured(values: NDArray[np.float64]) -> dict[str, float]:
    """The measured value, which is the first, with the interval that the resampled ones span."""
    low, high = interval(values[1:])
    return {"value": float(values[0]), "low": low, "high": high}


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The central 95 % of resampled values (percentile interval)."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)
