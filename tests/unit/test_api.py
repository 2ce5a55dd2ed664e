"""What `import pangate` gives."""

from __future__ import annotations

import subprocess
import sys

import pytest

import pangate


def test_the_public_names() -> None:
    for name in pangate.__all__:
        assert getattr(pangate, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'msak'"):
        pangate.msak  # noqa: B018


def test_mask_and_find() -> None:
    assert pangate.mask("card 4111 1111 1111 1111") == "card **** **** **** 1111"
    assert pangate.mask('{"n":4111111111111111}', "json") == '{"n":1000000000001111}'
    (hit,) = pangate.find("é card 4111 1111 1111 1111")
    assert hit == pangate.Hit(7, 26, "visa", "**** **** **** 1111", "pan", "", "high")
    unchanged = "nothing here"
    assert pangate.mask(unchanged) is unchanged


def test_only_what_is_used_is_imported() -> None:
    script = (
        "import sys, pangate; pangate.mask('4111111111111111');"
        "print(*(m for m in sys.modules if m.split('.')[0] in"
        " ('re2', 'pyarrow', 'cryptography', 'asyncio', 'ssl', 'logging', 'tomllib', 'argparse')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
