"""Which store a file belongs to: what the header of every file carries since format version 2.

The files of two stores of one shape cannot be told apart by their place. So a store has a random number, and each of
its files names it, together with a digest of the spec: no file of another store, and no spec edited by hand, passes
for this store's.
"""

import hashlib
import json
import secrets
from dataclasses import dataclass

from logitstore.spec import NEVER_COMPARED, StoreSpec

DIGEST_BYTES = 16
CHANGING = ("num_epochs", *NEVER_COMPARED)
"""Keys of the spec that its digest leaves out: a store may grow, and other versions may continue it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What the headers of a store's files say of it."""

    version: int
    """Of the format: 1 or 2."""
    store_id: int
    """Random 64 bits, not 0; 0 in version 1, whose files do not name their store."""
    spec_digest: bytes
    """`spec_digest` of the spec; empty in version 1."""

    @classmethod
    def new(cls, spec: StoreSpec) -> "Identity":
        """Of a store that is being made."""
        return cls.of(spec, store_id=secrets.randbits(64) or 1)

    @classmethod
    def of(cls, spec: StoreSpec, *, store_id: int) -> "Identity":
        """Of a store of version 2."""
        return cls(version=2, store_id=store_id, spec_digest=spec_digest(spec))


VERSION_1 = Identity(version=1, store_id=0, spec_digest=b"")
"""Of every store of format version 1."""


def spec_digest(spec: StoreSpec) -> bytes:
    """The first 16 bytes of the SHA-256 of a spec's JSON text with sorted keys, no spaces and ASCII escapes, without
    what may change in a store's life."""
    values = {name: value for name, value in spec.to_json().items() if name not in CHANGING}
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).digest()[:DIGEST_BYTES]
