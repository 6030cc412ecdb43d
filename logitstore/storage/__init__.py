"""Where a store's files lie: on disk (`local`) or behind a URL (`remote`), with one face (`folder`)."""
