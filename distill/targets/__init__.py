"""Distillation targets: from a teacher's logits to sparse targets, and the losses on them.

sparse     the value: top-k classes, log-probabilities, the mass outside     selection  which classes are selected
losses     soft targets and labels
"""
