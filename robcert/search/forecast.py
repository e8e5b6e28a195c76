"""How much work images still are, from the work that they and others were so far.

Images leave a search when they are decided or when it gives them up, most of them long before the budget is spent. The
share of the budget that an image takes is estimated like a life time: those that are through have ended at a known
share, those that are searched have lived as long as they have (Kaplan & Meier 1958).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

EARLIER = 8.0
"""So many images is all that is known of an earlier leg worth, where this one has ended few itself."""


def shares_left(ages: Sequence[float], ended: Sequence[float], earlier: Sequence[float] = ()) -> list[float]:
    """Return the expected share of the budget that each image still takes.

    Args:
        ages: shares that images have had; 0 for one that waits.
        ended: shares at which others were through.
        earlier: the same of an earlier leg of the attack.

    Returns:
        A share for each age. An age above all that ended goes on to the whole budget.
    """
    if not len(ages):
        return []
    weight = min(1.0, EARLIER / len(earlier)) if len(earlier) else 0.0
    lives = np.clip(np.concatenate([ended, earlier, [age for age in ages if age > 0]]).astype(float), 0.0, 1.0)
    weights = np.concatenate([np.ones(len(ended)), np.full(len(earlier), weight)])
    weights = np.concatenate([weights, np.ones(len(lives) - len(weights))])
    through = np.arange(len(lives)) < len(ended) + len(earlier)
    times = np.unique(lives[through])
    at_risk = np.array([weights[lives >= at].sum() for at in times])
    deaths = np.array([weights[through & (lives == at)].sum() for at in times])
    edges = np.concatenate([[0.0], times, [1.0]])
    survival = np.concatenate([[1.0], np.cumprod(1.0 - deaths / np.maximum(at_risk, 1e-12))]).clip(0.0, 1.0)
    widths = np.diff(edges)
    later = np.concatenate([np.cumsum((survival * widths)[::-1])[::-1], [0.0]])
    left: list[float] = []
    for age in np.clip(np.asarray(ages, dtype=float), 0.0, 1.0):
        k = int(np.searchsorted(edges, age, side="right")) - 1
        k = min(k, len(survival) - 1)
        alive = survival[k]
        area = survival[k] * (edges[k + 1] - age) + later[k + 1]
        left.append(float(area / alive) if alive > 0 else float(1.0 - age))
    return left
