"""Errors that a user of a store can cause and fix.

Every message says what is wrong, where (store, array, epoch, block) and what to do next. The command line
prints the message without a traceback and exits with 1.
"""


class StoreError(Exception):
    """The store cannot do what was requested; the message is meant for the user. Base class of all others here."""


class StoreMissing(StoreError):
    """There is nothing at the path."""


class NotAStore(StoreError):
    """Something is at the path, but it is not a whole logit store."""


class UnsupportedVersion(StoreError):
    """The store was written in a newer format, or its attributes hold keys that this version does not know."""


class SpecError(StoreError):
    """A `StoreSpec`, or data passed with it, contradicts itself or the store."""


class StoreExists(StoreError):
    """`create` found something at the path."""


class BlockExists(StoreError):
    """`write` found the block committed already, and was not called with `replace=True`."""


class MissingBlocks(StoreError):
    """Rows were requested whose blocks have not been written yet."""


class DamagedBlock(StoreError):
    """Stored bytes are not what was written: checksum, header or content contradict the format."""


class StoreLocked(StoreError):
    """Another run is writing into the store."""


class StoreFull(StoreError):
    """The disk (or quota) is full. Nothing committed was touched; the same command resumes once there is space."""


class StoreUnreachable(StoreError):
    """Object storage did not answer, or refused. Says nothing about the store; the same command resumes."""


class StoreConflict(StoreError):
    """Two stores, or a store and a request, differ where they must not; nothing was written."""


class OutOfRange(StoreError, IndexError):
    """An epoch, block or row that the store does not have."""
