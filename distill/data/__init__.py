"""From packed images to batches of views.

catalog, shards        tar shards and where each image lies in them; `packing/` writes them, `remote` fetches them
order                  which rows each rank reads at each step
seeds, pairs           the seed of every view, and the pairs of rows that are mixed
view_reader, batches   bytes -> views -> a `Batch`, in the workers of `loader`
"""
