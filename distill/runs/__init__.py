"""The folder of a run.

run_dir     its files, and whether a run has the same settings     checkpoint  written atomically, verified when read
metric_log  `metrics.jsonl`: writer and reader                     curves      the metrics as a figure
summary     `summary.md`
"""
