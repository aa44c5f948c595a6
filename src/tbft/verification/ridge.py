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
    x = (features - mean) / spread
    x = np.concatenate([x, np.ones((len(x), 1), x.dtype)], axis=1).astype(np.float64)
    targets = np.eye(classes)[labels]
    if x.shape[1] <= len(x):
        solution = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T)
    else:  # the same from a smaller inverse
        solution = x.T @ np.linalg.inv(x @ x.T + RIDGE * np.eye(len(x)))
    w, hat = solution @ targets, x @ solution
    leverage = np.diag(hat)[:, None]
    weight = w[:-1].T / spread
    return Regression(weight, w[-1] - weight @ mean, (hat @ targets - leverage * targets) / (1 - leverage))
