"""Where a store's files lie: on a disk (`local`) or behind a URL (`remote`), both with one interface (`interface`).

`atomic` writes local files that appear whole or not at all; `remote_files` reads remote files with retries. Both know
nothing of stores, and serve other programs too.
"""

from pathlib import Path

from logitstore.storage.interface import Storage
from logitstore.storage.local import LocalStorage
from logitstore.storage.remote import RemoteStorage
from logitstore.storage.remote_files import is_url

__all__ = ["Storage", "is_url", "open_storage"]


def open_storage(path: str | Path) -> Storage:
    """The storage at a local path or an fsspec URL such as `s3://bucket/name.zarr`. Nothing need be there.

    Raises `StoreError` where a URL's scheme is unknown or its driver is not installed.
    """
    if is_url(path):
        return RemoteStorage(str(path))
    return LocalStorage(Path(path))
