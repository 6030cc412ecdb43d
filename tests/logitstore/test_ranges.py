"""Lists of numbers as text."""

import pytest

import logitstore
from logitstore.ranges import compact, parse


def test_compact_ranges():
    assert compact([3, 1, 2, 7, 9, 10]) == "1-3, 7, 9-10"
    assert compact(range(0, 100, 2), most=3) == "0, 2, 4 and 47 more"


def test_parse():
    assert parse("0, 2-3,2") == [0, 2, 3]
    for text in ("", "3-1", "a", "1-", "-1"):
        with pytest.raises(logitstore.SpecError, match="is not a list of numbers"):
            parse(text)
