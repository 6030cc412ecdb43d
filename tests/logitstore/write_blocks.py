"""Run as a program: take a store's lock and write its missing blocks, for tests that kill it.

Prints `ready` once it holds the lock and, with `hold` as second argument, then only waits: `fork` leaves a child
behind that waits as well.
"""

import os
import sys
import time

import conftest  # type: ignore[import-not-found]  # Of this folder, in which the program lies.

import logitstore

path, mode = sys.argv[1:3]
with logitstore.writer(path) as writer:
    if mode == "fork" and os.fork() == 0:
        time.sleep(30)
        os._exit(0)
    print("ready", flush=True)
    if mode != "write":
        time.sleep(60)
    for epoch, block in zip(*(~logitstore.open(path).done()).nonzero(), strict=True):
        rows = conftest.teacher_rows(
            len(writer.spec.block_rows(int(block))),
            k=writer.spec.topk,
            num_classes=writer.spec.num_classes,
            seed=int(1000 * epoch + block),
        )
        writer.write(int(epoch), int(block), **rows)
