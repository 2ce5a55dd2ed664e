"""`pangate audit rotate-key`: the next key of a gateway's record, which its sealer takes up by itself."""

from __future__ import annotations

import argparse
from pathlib import Path

from pangate.audit.signing import KeyCommand, key_source, next_key, signer
from pangate.audit_cli.keygen import write_private
from pangate.errors import LedgerError
from pangate.ledger.note import Signer


def add(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", required=True, help="the gateway's TOML file"
    )


def run(options: argparse.Namespace) -> int:
    """Write the next key beside the present one, or have the one taken up that the vault has, and say its
    public half."""
    from pangate import config

    whole = config.load(options.config)
    source = key_source(whole.audit, whole.limits.credential_seconds)
    if isinstance(source, KeyCommand):
        print(source.rotate().verifier.text())
        print(
            "The sealer asks for it too and takes it up with its next checkpoint: the event key.rotated says "
            "so.\nThen take the old key out of the vault. Who verifies with the first key goes on with that."
        )
        return 0
    path = whole.audit.private_key
    if not path.exists():
        raise LedgerError(f"there is no key {path} yet; the first start of the gateway makes it")
    now = signer(path, "")
    made = Signer.generate(now.verifier.name)
    write_private(next_key(path), made)
    print(made.verifier.text())
    print(
        "The sealer takes it up with its next checkpoint, at the latest when the gateway starts: the event "
        "key.rotated says so.\nWho verifies with the first key goes on with that."
    )
    return 0
