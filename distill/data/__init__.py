"""Images on disk: packing into tar shards, the catalog over them, and the order in which they are read."""
