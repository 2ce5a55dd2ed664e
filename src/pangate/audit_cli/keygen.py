"""`pangate audit keygen`: a new key pair, the private half in a file that only its owner can read."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from pangate.errors import LedgerError
from pangate.ledger.note import COSIGNATURE, ED25519, Signer


def add(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help='where the private key goes; "-" prints it alone, for a pipe into a vault',
    )
    parser.add_argument(
        "--name",
        required=True,
        help="what the key is called in its signatures: the origin of a ledger, or a witness's name",
    )
    parser.add_argument(
        "--witness", action="store_true", help="a key that a witness cosigns checkpoints with"
    )


def run(options: argparse.Namespace) -> int:
    """Write the private key, and the public one beside it and to standard output, or to standard error when
    the private one is printed."""
    if options.file == Path("-") and sys.stdout.isatty():
        raise LedgerError(
            "a private key is not shown on a terminal; pipe it to where it is kept, such as "
            "`| vault kv put secret/pangate key=-`, or name a file"
        )
    signer = Signer.generate(options.name, COSIGNATURE if options.witness else ED25519)
    if options.file == Path("-"):
        print(signer.private_text())
        print(signer.verifier.text(), file=sys.stderr)
        return 0
    write_key(options.file, signer)
    print(signer.verifier.text())
    return 0


def write_key(path: Path, signer: Signer) -> None:
    """Write `signer` to the new file `path`, and its public key to the same name with ".pub".

    Raises LedgerError when one of the files is there or cannot be written."""
    write_private(path, signer)
    _write(path.with_name(path.name + ".pub"), signer.verifier.text(), 0o644)


def write_private(path: Path, signer: Signer) -> None:
    """Write `signer` to the new file `path`. Raises LedgerError when it is there or cannot be written."""
    _write(path, signer.private_text(), 0o600)


def _write(path: Path, text: str, mode: int) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(fd, "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(fd)
    except FileExistsError:
        raise LedgerError(f"{path} is there already; no key is ever written over") from None
    except OSError as error:
        raise LedgerError(f"{path} cannot be written: {error.strerror}") from None
