"""What a sample says of the whole it was drawn from: exact bounds for a population that ends."""

from __future__ import annotations

from math import comb


def most_of(seen: int, sample: int, population: int, confidence: float = 0.95) -> int:
    """Return the exact one-sided upper confidence bound on a count in a population.

    Args:
        seen: items of the kind in question in the sample.
        sample: items that were drawn without replacement.
        population: items that there are.
        confidence: of the bound.

    Returns:
        The most items of the kind that the population may hold: the largest count of which a sample would show at most
        ``seen`` with a probability above 1 - ``confidence``. ``seen`` where everything was looked at.

    Raises:
        ValueError: the counts do not fit into each other.
    """
    if not 0 <= seen <= sample <= population:
        raise ValueError(f"{seen} of {sample} of {population}")
    low, high = seen, population - (sample - seen)
    total = comb(population, sample)
    while low < high:
        middle = (low + high + 1) // 2
        ways = sum(comb(middle, k) * comb(population - middle, sample - k) for k in range(seen + 1))
        if ways > (1 - confidence) * total:
            low = middle
        else:
            high = middle - 1
    return low
