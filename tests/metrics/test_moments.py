import math
import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unirex_ray.metrics.moments import mean, moments, standard_error

VALUES = st.floats(-5, 5)


def test_by_hand():
    sums = moments(torch.tensor([1.0, 2.0, 6.0]))
    assert mean(sums) == 3.0
    assert standard_error(sums) == pytest.approx(math.sqrt(7) / math.sqrt(3))  # variance (4 + 1 + 9) / 2
    assert standard_error(moments(torch.tensor([1.0]))) is None


def test_rows_of_one_instance_are_drawn_together_and_none_leaves_the_instance_out():
    # Two instances: rows 1, 3 and row 2; the third has no row. R = 2, residuals (4 - 2 * 2) = 0 and (2 - 2) = 0.
    sums = moments(torch.tensor([4.0, 2.0, 9.0]), torch.tensor([2, 1, 0]))
    assert (mean(sums), standard_error(sums)) == (2.0, 0.0)
    # Rows 1, 3 and row 5: R = 3, residuals -2 and 2: sqrt(2 / 1 * 8) / 3.
    assert standard_error(moments(torch.tensor([4.0, 5.0]), torch.tensor([2, 1]))) == pytest.approx(4 / 3)


@pytest.mark.slow
@given(st.lists(VALUES, min_size=2, max_size=20), st.data())
def test_parts_add_up_to_the_standard_error_of_all(values, data):
    cut = data.draw(st.integers(1, len(values) - 1))
    sums = moments(torch.tensor(values[:cut])) + moments(torch.tensor(values[cut:]))
    assert mean(sums) == pytest.approx(statistics.fmean(values), abs=1e-6)
    expected = statistics.stdev(values) / math.sqrt(len(values))
    assert standard_error(sums) == pytest.approx(expected, rel=1e-4, abs=1e-6)
