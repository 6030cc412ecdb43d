"""Errors a user of a store can cause and mend.

Every message says what is wrong, where (store, array, epoch, block) and what to do next. The command line
prints the message without a traceback and exits with 1.
"""


class StoreError(Exception):
    """The store cannot do what was asked; the message is meant for the user. Base of all others here."""


class StoreMissing(StoreError):
    """There is nothing at the path."""


class NotAStore(StoreError):
    """Something is at the path, but not a whole logit store."""


class UnsupportedVersion(StoreError):
    """The store was written in a newer format, or its attributes hold keys this version does not know."""


class SpecError(StoreError):
    """A `StoreSpec`, or data handed in for it, contradicts itself or the store."""


class StoreExists(StoreError):
    """`create` found something at the path."""


class BlockExists(StoreError):
    """`write` found the block committed already, and replacing it was not asked for."""


class MissingBlocks(StoreError):
    """Rows were asked for whose blocks no teacher pass has written yet."""


class DamagedBlock(StoreError):
    """Stored bytes are not what was written: checksum, header or content contradict the format."""


class StoreLocked(StoreError):
    """Another run is writing into the store."""


class StoreFull(StoreError):
    """The disk (or quota) is full. Nothing committed was touched; the same command resumes once there is
    room."""


class StoreUnreachable(StoreError):
    """Object storage did not answer, or not to us. Says nothing about the store; the same command resumes."""


class StoreConflict(StoreError):
    """Two stores, or two parts of one, hold different things in the same place; nothing was written."""


class OutOfRange(StoreError, IndexError):
    """An epoch, block or row that the store does not have."""
