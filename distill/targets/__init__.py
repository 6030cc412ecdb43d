"""Distillation targets: from a teacher's logits to sparse targets, and the losses on them.

sparse     the value: top-k classes, log-probabilities, tail      selection  which classes of a view are stored
losses     losses on sparse targets and on labels
"""
