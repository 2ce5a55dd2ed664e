"""That a run under the sanitizers tests the sanitized build, and an ordinary run does not."""

import os
from pathlib import Path

from pangate import _frame, _scan, _text


def test_the_build_under_test_is_the_one_that_is_meant():
    wanted = os.environ.get("PANGATE_SANITIZED")
    for module in (_scan, _frame, _text):
        data = Path(module.__file__).read_bytes()
        sanitized = b"__asan_init" in data and b"__ubsan_handle" in data
        assert sanitized == bool(wanted)
        if wanted:
            assert Path(module.__file__).is_relative_to(wanted)
