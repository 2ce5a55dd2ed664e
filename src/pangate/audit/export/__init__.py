"""One period of the record as one file that shows by itself that nothing of it was changed: the events, their
recordings and long texts, the hashes that lead from them to a signed checkpoint, what anchors left, and a
page of code that checks it all without pangate.

    README.md, verify.py, keys.pub
    events.jsonl          the events as they were sealed, a line each
    tree.json             what stands beside them in the tree, in the order in which it is put together
    checkpoint            as the log has signed it
    consistency.json      for each checkpoint of an anchor, the hashes that lead from it to that one
    anchors/, tombstones/, holds.jsonl      as they are in the ledger
    files/sessions/, files/large/           what the events name
    manifest.json         the period, and each file with its length and digest
    manifest.note         the log's signature over the manifest

`container.py` has the forms of the file and the seal at its end, `write.py` makes it, `check.py` and, without
pangate, `verify_archive.py` check it."""
