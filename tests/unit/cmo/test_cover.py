"""The cheapest set that gives what is needed; its laws are in the property tests."""

import numpy as np

from services.cmo.core.cover import cheapest_cover


def test_a_search_that_was_broken_off_still_takes_nobody_who_can_be_spared():
    """Of 36 members the search looks at a small part of all sets."""
    offers = [
        40,
        3,
        30,
        1,
        8,
        13,
        3,
        13,
        2,
        5,
        5,
        3,
        3,
        1,
        5,
        3,
        5,
        27,
        1,
        1,
        5,
        5,
        40,
        5,
        1,
        40,
        13,
        5,
        40,
        5,
        13,
        5,
        40,
        2,
        2,
        40,
    ]
    dear = {1, 4, 8, 15, 20, 21, 23, 32}
    cheap = {12, 14, 16, 18, 19, 22, 26, 27, 28, 33, 35}
    costs = [10.0 if one in dear else 0.01 if one in cheap else 1.0 for one in range(len(offers))]
    found = cheapest_cover(np.array([207]), np.array(offers)[:, None], np.array(costs))
    assert found is not None
    total = sum(offers[one] for one in found)
    assert total >= 207
    assert all(total - offers[one] < 207 for one in found)
