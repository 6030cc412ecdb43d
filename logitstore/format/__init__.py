"""The format on disk: `docs/format.md` in code.

layout    arrays, chunks and shards of a store      shard     one zarr shard: inner chunks, index, checksums
codec     log-probabilities as bytes                metadata  zarr.json and the spec
blocks    one block's files, read and verified      gather    rows in any order, from few reads
cache     recently used chunks
"""
