"""Kill -9 under load: the short form of tests/crash.py."""

import pytest

from crash import crash

pytestmark = pytest.mark.integration


def test_no_command_is_lost_by_a_kill():
    found = crash(10, seed=7)
    assert found.wrong == [], str(found)
    assert found.lost == 0
    assert found.recorded >= found.executed > 100
