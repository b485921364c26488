"""A conditional logit: which of the answers to a question is right, by who gave it.

The probability of an answer is the exponential of its utility, over the sum for all answers to that question; the utility
is linear in its features. Newton's method with a ridge, on items where one answer is right and another one wrong.
McFadden, "Conditional logit analysis of qualitative choice behavior", 1974.
"""

from __future__ import annotations

import numpy as np

from moa.evals.search.ballots import Doubles, Flags

__all__ = ["fitted"]

STEPS, PRECISION = 30, 1e-6


def fitted(features: Doubles, answers: Flags, right: Doubles, ridge: Doubles) -> Doubles:
    """The coefficients.

    Args:
        features: of shape (items, answers, coefficients).
        answers: which answers exist, of shape (items, answers).
        right: from 0 to 1, of the same shape.
        ridge: the penalty of half the square of each coefficient.
    """
    mass = np.where(answers, right, 0.0)
    total = mass.sum(1)
    informative = (total > 0) & ((mass != mass.max(1, keepdims=True)) & answers).any(1)
    features, answers = features[informative], answers[informative]
    target = mass[informative] / total[informative, None]
    flat = features.reshape(-1, features.shape[2])
    theta = np.zeros(len(ridge))
    value = _likelihood(features, answers, target, ridge, theta)
    for _ in range(STEPS):
        p = _probabilities(features, answers, theta)
        means = np.einsum("ij,ijk->ik", p, features)
        gradient = (target - p).ravel() @ flat - ridge * theta
        curvature = (flat * p.reshape(-1, 1)).T @ flat - means.T @ means + np.diag(ridge)
        step, share = np.linalg.solve(curvature, gradient), 1.0
        while (new := _likelihood(features, answers, target, ridge, theta + share * step)) < value and share > 1e-3:
            share /= 2
        if new <= value + PRECISION:
            break
        theta, value = theta + share * step, new
    return theta


def _utilities(features: Doubles, answers: Flags, theta: Doubles) -> Doubles:
    utilities = np.where(answers, features @ theta, -np.inf)
    return np.asarray(utilities - utilities.max(1, keepdims=True))


def _probabilities(features: Doubles, answers: Flags, theta: Doubles) -> Doubles:
    odds = np.exp(_utilities(features, answers, theta))
    return np.asarray(odds / odds.sum(1, keepdims=True))


def _likelihood(features: Doubles, answers: Flags, target: Doubles, ridge: Doubles, theta: Doubles) -> float:
    utilities = _utilities(features, answers, theta)
    logs = utilities - np.log(np.exp(utilities).sum(1, keepdims=True))
    return float(np.where(answers, target * np.where(answers, logs, 0.0), 0.0).sum() - 0.5 * (ridge * theta**2).sum())
