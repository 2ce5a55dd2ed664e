"""One labelled corpus for everybody: texts with the card numbers that are in them, and texts that only look as
if. Made by construction, not by any of the scanners. Some cases are there because a peer does them better."""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass

from corpora import check_digit, pan

PUBLISHED = (
    "4111111111111111", "4012888888881881", "4222222222222", "5555555555554444", "5105105105105100",
    "2223000000000007", "378282246310005", "371449635398431", "6011111111111117", "6011000990139424",
    "30569309025904", "38520000023237", "3530111333300000", "3566002020360505", "6250947000000014",
    "8171999900000000021", "6703444444444449", "6799998900000099990", "2200000000000004", "5066991111111118",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """`pan` is what a text hides, as its digits; empty when there is none. `group` is the kind of case."""

    group: str
    text: str
    pan: str = ""


def spaced(digits: str, separator: str) -> str:
    step = 4 if len(digits) != 15 else 0
    parts = [digits[:4], digits[4:10], digits[10:]] if not step else None
    parts = parts or [digits[i : i + 4] for i in range(0, len(digits), 4)]
    return separator.join(parts)


def cases() -> list[Case]:
    """The corpus. Deterministic."""
    chance = random.Random(20)
    found: list[Case] = []
    pans = [*PUBLISHED, *(pan(chance) for _ in range(180))]
    frames = {
        "alone": "{0}",
        "in prose": "the customer paid with {0} and left",
        "in JSON": '{{"card": "{0}", "amount": 12.5}}',
        "in CSV": "17,Ada Wong,{0},12.50,EUR",
        "in a log line": "2026-11-24T12:00:01Z INFO charge card={0} ok",
        "behind letters": "card_{0}_used",
        "behind a date": "2026-11-24 {0} 12.50",
    }
    for number in pans:
        for group, frame in frames.items():
            found.append(Case(group, frame.format(number), number))
        found.append(Case("spaces", f"card {spaced(number, ' ')} ok", number))
        found.append(Case("dashes", f"card {spaced(number, '-')} ok", number))
        found.append(Case("dots", f"card {spaced(number, '.')} ok", number))
        found.append(Case("no-break spaces", f"card {spaced(number, chr(160))} ok", number))
        full = "".join(chr(0xFF10 + int(d)) for d in number)
        found.append(Case("full-width digits", f"card {full} ok", number))
        found.append(Case("percent-encoded", f"?card={spaced(number, '%20')}&x=1", number))
    for _ in range(400):
        number = pan(chance)
        wrong = number[:-1] + str((int(number[-1]) + chance.randrange(1, 10)) % 10)
        found.append(Case("not: bad check digit", f"card {wrong} ok"))
        found.append(Case("not: UUID", f"id {uuid.UUID(int=chance.getrandbits(128), version=4)}"))
        found.append(
            Case("not: time in ns", f"at {1_760_000_000_000_000_000 + chance.randrange(10**17)}")
        )
        found.append(Case("not: time in ms", f"at {1_760_000_000_000 + chance.randrange(10**10)}"))
        body = "35" + "".join(str(chance.randrange(10)) for _ in range(12))
        found.append(Case("not: IMEI", f"imei {body}{check_digit(body)}"))
        found.append(Case("not: phone", f"call +49 30 {chance.randrange(10**7, 10**8)} or 0800"))
        found.append(Case("not: hash", f"sha {chance.getrandbits(256):064x}"))
        found.append(Case("not: order number", f"order 90{chance.randrange(10**13, 10**14)}"))
        found.append(
            Case("not: amounts", f"{chance.randrange(10**6)} {chance.randrange(10**6)} 2026")
        )
    return found
