"""Rows of results as pandas frames; pandas is imported when one is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from unirex_ray.errors import UserError

if TYPE_CHECKING:
    from pandas import DataFrame
else:
    DataFrame = Any

__all__ = ["DataFrame", "frame_of"]


def frame_of(records: Sequence[Mapping[str, Any]]) -> DataFrame:
    """A frame with a row per mapping, and the union of their keys as columns, in the order of first appearance.

    Raises:
        UserError: where pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise UserError(f"a frame needs pandas: pip install pandas ({error})") from None
    columns = list(dict.fromkeys(key for record in records for key in record))
    return pandas.DataFrame.from_records(list(records), columns=columns)
