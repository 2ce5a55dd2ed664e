"""Check a .tlog-proof file of `pangate audit prove`: python verify_proof.py PROOF PUBLIC_KEY_FILE

Independent of pangate: the standard library and `cryptography`, by the specifications c2sp.org/tlog-proof,
c2sp.org/tlog-checkpoint, c2sp.org/signed-note and RFC 9162, section 2.1.3.2. Prints the event that was
proven; an exit code other than 0 means that nothing is proven."""

import sys
from base64 import b64decode
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def require(holds, otherwise):
    if not holds:
        sys.exit(otherwise)


proof, keys = (Path(name).read_text(encoding="utf-8") for name in sys.argv[1:3])

# The file: a head, then the checkpoint, which is a text and its signatures.
head, body, signatures = proof.split("\n\n")
magic, extra, index, *path = head.split("\n")
origin, size, root = body.split("\n")[:3]
require(magic == "c2sp.org/tlog-proof@v1", "this is no proof")
leaf = b64decode(extra.removeprefix("extra "))
index, size = int(index.removeprefix("index ")), int(size)

# The signature, by a key that the reader of this trusts.
signed = False
for line in keys.split():
    name, key_id, encoded = line.split("+", 2)
    kind, public = b64decode(encoded)[0], b64decode(encoded)[1:]
    for signature in signatures.strip().split("\n"):
        _, by, data = signature.split(" ")
        data = b64decode(data)
        if (by, data[:4].hex(), kind) == (origin, key_id, 1) and name == origin:
            # raises InvalidSignature
            Ed25519PublicKey.from_public_bytes(public).verify(data[4:], f"{body}\n".encode())
            signed = True
require(signed, f"no key of {origin} that was given has signed this")

# The tree: from the leaf up to the root.
require(0 <= index < size, "the index is not in the tree")
node, last, result = index, size - 1, sha256(b"\0" + leaf).digest()
for other in map(b64decode, path):
    require(last, "the path is too long")
    if node & 1 or node == last:
        result = sha256(b"\1" + other + result).digest()
        while node and not node & 1:
            node, last = node >> 1, last >> 1
    else:
        result = sha256(b"\1" + result + other).digest()
    node, last = node >> 1, last >> 1
require(last == 0 and result == b64decode(root), "the event is not in the tree that was signed")
print(leaf.decode())
