"""Check an unpacked archive of `pangate audit export`: python verify.py [PUBLIC_KEYS [ARCHIVE]]

Independent of pangate: the standard library and `cryptography`, by RFC 9162 and C2SP's signed-note.
PUBLIC_KEYS has the log's keys, a line each, from where you keep them. With ARCHIVE, the file that this was
unpacked from, every byte of that is checked too. An exit code other than 0 means that something is not what
was signed."""

import json
import sys
from base64 import b64decode
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

HERE = Path(__file__).resolve().parent
SCRIPT = "pangate.dev/export/v1"
LETTERS = str.maketrans("0123456789abcdef", "abcdefghijklmnop")


def require(holds: object, otherwise: str) -> None:
    if not holds:
        sys.exit(f"WRONG: {otherwise}")


def body_of(note: str, keys: str) -> list[str]:
    """The lines of a note that a key of its origin has signed."""
    body, _, signatures = note.rpartition("\n\n")
    lines = body.split("\n")
    origin = lines[1].removeprefix("origin ") if lines[0] == SCRIPT else lines[0]
    for name, key_id, encoded in (line.split("+", 2) for line in keys.split()):
        public = b64decode(encoded)
        for signature in signatures.strip().split("\n"):
            _, by, data = signature.split(" ")
            raw = b64decode(data)
            if (by, raw[:4].hex(), public[0], name) == (origin, key_id, 1, origin):
                # raises InvalidSignature
                Ed25519PublicKey.from_public_bytes(public[1:]).verify(raw[4:], f"{body}\n".encode())
                return lines
    sys.exit(f"WRONG: no key of {origin} that was given has signed this")


def read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def blocks(path: Path, most: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        while most > 0 and (data := file.read(min(1 << 20, most))):
            most -= len(data)
            yield data


def digest(path: Path, most: int) -> str:
    made = sha256()
    for data in blocks(path, most):
        made.update(data)
    return made.hexdigest().translate(LETTERS)


def signed(note: str, keys: str, path: Path) -> None:
    """The file at `path` begins with the bytes that a statement is over."""
    _, _, size, found = (line.rpartition(" ")[2] for line in body_of(note, keys))
    require(digest(path, int(size)) == found, f"{path.name} is not what was signed")


def seal(path: Path, keys: str) -> None:
    """Every byte of the archive is before its seal, or the seal."""
    data = path.read_bytes()[-16384:]
    begin = data.rfind(f"{SCRIPT}\n".encode())
    require(begin >= 0, "the archive has no seal at its end")
    gz, zst = path.name.endswith(".gz"), path.name.endswith(".zst")
    note = data[begin : len(data) - (11 if gz else 0)]
    head = bytes.fromhex("502a4d18") + len(note).to_bytes(4, "little")
    if gz:
        head = bytes.fromhex("1f8b08100000000000ff")
    elif not zst:
        head = len(note).to_bytes(2, "little")
    whole = head + note + (bytes.fromhex("0003000000000000000000") if gz else b"")
    require(data.endswith(whole), "the seal of the archive was changed")
    length = int(note.decode().split("\n")[2].split(" ")[1])
    require(length + len(whole) == path.stat().st_size, "the archive has another length")
    signed(note.decode(), keys, path)


def grow(roots: list[tuple[int, bytes]], height: int, root: bytes) -> None:
    """Put a whole subtree to the right of a tree."""
    while roots and roots[-1][0] == height:
        root = sha256(b"\1" + roots.pop()[1] + root).digest()
        height += 1
    roots.append((height, root))


def claims(event: dict[str, object]) -> Iterator[tuple[str, dict[str, object], bool]]:
    """What an event says of a file: its path, length and digest, and whether that is all of it."""
    data = event.get("data")
    if isinstance(data, dict):
        code = str(event["code"])
        recorded = code in ("session.recording", "session.unfinished", "session.recorded")
        if recorded and "file" in data and "digest" in data:
            yield data["file"], data, code != "session.recorded"
        if isinstance(data.get("large"), dict):
            yield f"large/{data['large']['digest']}", data["large"], True


def main() -> None:
    keys = Path(sys.argv[1]).read_text(encoding="utf-8") if sys.argv[1:] else read("keys.pub")
    if sys.argv[2:]:
        seal(Path(sys.argv[2]), keys)
    manifest = json.loads(read("manifest.json"))
    size = len((HERE / "manifest.json").read_bytes())
    require(f"\nbytes {size}\n" in read("manifest.note"), "the manifest has another length")
    signed(read("manifest.note"), keys, HERE / "manifest.json")

    # every file, and no other
    there = {path.relative_to(HERE).as_posix() for path in HERE.rglob("*") if path.is_file()}
    other = there ^ {*manifest["files"], "manifest.json", "manifest.note"}
    require(not other, f"{min(other, default='')} is missing, or was put in")
    for name, (length, found) in manifest["files"].items():
        require((HERE / name).stat().st_size == length, f"{name} has another length")
        require(digest(HERE / name, length) == found, f"{name} was changed")

    # the tree, from the events and what is beside them
    origin, count, root = body_of(read("checkpoint"), keys)[:3]
    require(origin == manifest["origin"], "the checkpoint is of another log")
    roots: list[tuple[int, bytes]] = []
    done = 0
    with (HERE / "events.jsonl").open("rb") as events:
        for item in json.loads(read("tree.json")):
            if "hash" in item:
                raw = item["hash"].translate({after: before for before, after in LETTERS.items()})
                grow(roots, item["height"], bytes.fromhex(raw))
            for _ in range(item.get("events", 0)):
                leaf = events.readline().removesuffix(b"\n")
                grow(roots, 0, sha256(b"\0" + leaf).digest())
                event = json.loads(leaf)
                place = sum(1 << height for height, _ in roots)
                require(event["sequence"] == place, f"the event {place} stands in another place")
                for file, claim, whole in claims(event):
                    path, length = HERE / "files" / file, int(str(claim["bytes"]))
                    require(not whole or path.stat().st_size == length, f"{file}: another length")
                    require(digest(path, length) == claim["digest"], f"{file} was changed")
                done += 1
        require(not events.readline(), "there are events that the tree has not")
    total = sum(1 << height for height, _ in roots)
    while len(roots) > 1:
        (_, right), (height, left) = roots.pop(), roots.pop()
        roots.append((height, sha256(b"\1" + left + right).digest()))
    require(total == int(count) and roots[0][1] == b64decode(root), "this is not the tree signed")
    print(f"verified: {done} events of {origin}, {manifest['from']} to {manifest['until']}")
    if not sys.argv[1:]:
        print(
            "with the keys that lie in the archive: give those that you keep, to know whose it is"
        )


if __name__ == "__main__":
    main()
