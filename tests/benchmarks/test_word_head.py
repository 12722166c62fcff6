"""What a head of words costs is measured, and told in a table."""

import pytest

pytest.importorskip("resource")  # which Windows lacks


def test_a_row_is_of_what_was_asked():
    from benchmarks.word_head import measured, table

    row = measured(7)
    assert row[0] == 7
    assert all(one >= 0 for one in row)
    assert table([row]).splitlines()[2].startswith("| 7 | ")
