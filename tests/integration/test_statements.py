"""What a statement may do, with real servers: the corpora of COPY's options and of effects."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from servers import clean

CORPUS = Path(__file__).parents[1] / "corpus"


def rows(name: str) -> list[dict[str, str]]:
    with (CORPUS / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("row", rows("copy.csv"), ids=lambda row: row["name"])
def test_corpus_of_copy(trial, token, row):
    done = trial.psql(token, row["sql"])
    clean(done.stdout + done.stderr)
    if row["verdict"] == "masked":
        assert done.returncode == 0, done.stderr
        assert "*" in done.stdout
    else:
        assert done.returncode != 0
        assert "gateway" in done.stderr or "masked" in done.stderr, done.stderr
        assert "1111" not in done.stdout
