"""Pretraining by distillation from stored logits: the teacher pass, the student pass and all between them."""
