"""Sparse teacher logits on disk."""
