"""A run's folder on disk.

run_dir     its files, and whether the same run is asked for again      checkpoint  written whole, checked when read
metric_log  `metrics.jsonl`                                             summary     `summary.md` and the curves
"""
