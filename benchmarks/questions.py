"""Questions to a record, one of each kind and the ones that are worst for an index, for the events of
tests/records.py."""

from __future__ import annotations

import records
from pangate.audit.index import Query

NEVER = {
    "session", "masked, never", "words, none", "words, two that are never together",
    "common ones that are never together", "a network of what was denied",
    "phrase, of one who is rare",
}  # fmt: skip
"""Those that no event answers; "words, rare" is answered by few or none, and all others by many."""


def questions(count: int, seconds: float) -> dict[str, Query]:
    """By what each is about. `count` events of the record are `seconds` apart on the average."""
    end = records.BEGAN + count * seconds
    return {
        "the newest": Query(),
        "principal": Query(terms={"principal": ("job-3",)}),
        "principal, rare": Query(terms={"principal": ("job-190",)}),
        "role": Query(terms={"role": ("ledger-writer",)}),
        "resource": Query(terms={"resource": ("archive",)}),
        "time": Query(since=(records.BEGAN + end) / 2, until=(records.BEGAN + end) / 2 + 60),
        "effect": Query(terms={"effect": ("schema",)}),
        "verdict": Query(terms={"verdict": ("deny",)}),
        "table": Query(terms={"table": ("cards",)}),
        "code": Query(terms={"code": ("auth.failed",)}),
        "address": Query(terms={"address": ("10.2.7.19",)}),
        "addresses of a network": Query(terms={"address": ("10.1.0.0/16",)}),
        "session": Query(terms={"session": ("nosuchsessionhere",)}),
        "masked": Query(masked=390),
        "masked, never": Query(masked=1_000_000),
        "network": Query(terms={"network": ("jcb",)}),
        "words, common": Query(text="select"),
        "words, rare": Query(text="1234567"),
        "words, none": Query(text="nowhere"),
        "words, two that are never together": Query(text="select delete"),
        "phrase": Query(text='"delete from" billing.c*'),
        "phrase, of one who is rare": Query(
            terms={"principal": ("job-190",)}, text='"delete from" billing.c*'
        ),
        "many at once": Query(
            terms={"principal": ("job-3",), "table": ("cards",), "effect": ("read",), "resource": ("ledger",)},
            text="holder",
            masked=150,
        ),
        "common ones that are never together": Query(
            terms={"effect": ("bulk_write",), "success": ("true",)}, text="select"
        ),
        "a network of what was denied": Query(
            terms={"verdict": ("deny",), "network": ("visa", "jcb")}
        ),
    }  # fmt: skip
