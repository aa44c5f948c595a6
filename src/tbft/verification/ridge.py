"""Ridge regression from features to one-hot labels, with leave-one-out predictions in closed form."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: Regularization of the regression on standardized features.
RIDGE = 30.0


class Regression(NamedTuple):
    """A linear map from features to labels.

    Attributes:
        weight, bias: (classes, d) and (classes,), of features as they are.
        left_out: (n, classes), the prediction for each sample by a regression without it.
    """

    weight: Floats
    bias: Floats
    left_out: Floats


def regress(features: npt.NDArray[Any], labels: npt.NDArray[np.int64], classes: int) -> Regression:
    """Regress one-hot labels on features (n, d).

    Allen's PRESS (1974): a sample's leave-one-out residual is its residual divided by one minus its leverage.
    """
    mean, spread = features.mean(0), features.std(0) + 1e-3
    x = with_constant((features - mean) / spread)
    targets = np.eye(classes)[labels]
    solution = ridge_solution(x, RIDGE)
    w, leverage = solution @ targets, leverages(x, solution)
    weight = w[:-1].T / spread
    return Regression(weight, w[-1] - weight @ mean, (x @ w - leverage * targets) / (1 - leverage))


def with_constant(x: npt.NDArray[Any]) -> Floats:
    """Features (n, d) with a constant 1 as the last one."""
    return np.concatenate([x, np.ones((len(x), 1), x.dtype)], axis=1).astype(np.float64)


def ridge_solution(x: Floats, ridge: float) -> Floats:
    """The map (d, n) from targets of features x (n, d) to the coefficients of a ridge regression."""
    n, d = x.shape
    if d <= n:
        return np.asarray(np.linalg.solve(x.T @ x + ridge * np.eye(d), x.T), np.float64)
    inverse = np.linalg.inv(x @ x.T + ridge * np.eye(n))  # the same, from a smaller matrix
    return np.asarray(x.T @ inverse, np.float64)


def leverages(x: Floats, solution: Floats) -> Floats:
    """The weight (n, 1) of each sample's own target in what is predicted for it."""
    return np.einsum("nd,dn->n", x, solution)[:, None]
