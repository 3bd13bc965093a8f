import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unirex_ray.metrics.means import mean, standard_error

VALUES = st.floats(-5, 5)


def ones(values) -> np.ndarray:
    return np.ones(len(values), dtype=int)


def test_by_hand():
    values = np.array([1.0, 2.0, 6.0])
    assert mean(values, ones(values)) == 3.0
    # variance (4 + 1 + 9) / 2
    assert standard_error(values, ones(values)) == pytest.approx(math.sqrt(7) / math.sqrt(3))
    assert standard_error(values[:1], ones(values[:1])) is None


def test_rows_of_one_instance_are_drawn_together_and_none_leaves_the_instance_out():
    # Two instances: rows 1, 3 and row 2; the third has no row. R = 2, residuals (4 - 2 * 2) = 0 and (2 - 2) = 0.
    sums, rows = np.array([4.0, 2.0, 0.0]), np.array([2, 1, 0])
    assert (mean(sums, rows), standard_error(sums, rows)) == (2.0, 0.0)
    # Rows 1, 3 and row 5: R = 3, residuals -2 and 2: sqrt(2 / 1 * 8) / 3.
    assert standard_error(np.array([4.0, 5.0]), np.array([2, 1])) == pytest.approx(4 / 3)


@given(st.lists(VALUES, min_size=2, max_size=20))
def test_one_row_each_is_the_standard_error_of_the_mean(values):
    sums = np.array(values)
    assert mean(sums, ones(values)) == pytest.approx(statistics.fmean(values), abs=1e-9)
    expected = statistics.stdev(values) / math.sqrt(len(values))
    assert standard_error(sums, ones(values)) == pytest.approx(expected, rel=1e-9, abs=1e-9)
