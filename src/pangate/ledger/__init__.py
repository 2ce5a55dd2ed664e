"""A Merkle log: the tree of RFC 6962, the C2SP forms of its tiles, notes, checkpoints and proofs.

Pure: no files, no sockets, no clock. Who writes a log is in `audit`, and who reads one too.

    tree        hashes, and the growing edge of a tree
    tiles       where hashes and entries are kept, and in what form
    note        signed notes, and the keys that sign and verify them
    checkpoint  origin, size and root, signed
    proof       inclusion and consistency
    records     the journal that a log is written ahead in
    witness     who cosigns checkpoints, and how it is asked
    letters     digests without digits
"""
