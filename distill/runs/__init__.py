"""A run's folder on disk.

run_dir     its files, and whether the same run is asked for again      checkpoint  written whole, checked when read
metric_log  `metrics.jsonl`: its writer and its reader                  curves      a figure of what it holds
summary     `summary.md`
"""
