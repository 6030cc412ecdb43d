"""The cache of decoded chunks."""

import numpy as np

from logitstore.format.cache import ChunkCache


def test_cache_drops_the_least_recently_used():
    cache = ChunkCache(limit_bytes=20)
    for name in "ab":
        cache.put(name, (np.zeros(10, np.uint8),))
    assert cache.get("a") is not None
    cache.put("c", (np.zeros(4, np.uint8), np.zeros(6, np.uint8)))
    assert [cache.holds(name) for name in "abc"] == [True, False, True]
    cache.put("d", (np.zeros(21, np.uint8),))
    assert not cache.holds("d")
    assert cache.size_bytes == 20
