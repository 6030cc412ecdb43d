"""Weights: files, the layouts of the published programs, loading, saving, converting, maps of classes."""
