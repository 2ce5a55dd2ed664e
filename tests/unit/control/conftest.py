"""The console that its tests ask."""

from __future__ import annotations

import pytest

from console_office import console_office, people


@pytest.fixture(scope="module")
def at():
    with people() as running:
        yield running


@pytest.fixture
async def office(tmp_path, at, monkeypatch):
    monkeypatch.setenv("PANGATE_TEST_PASSWORD", "x")
    at.claims, at.answer, at.extra = {}, None, {}
    at.asked.clear()
    async with console_office(tmp_path, at.url) as made:
        yield made
