"""Probes: what a model's features are worth on other data.

    subject -> features (computed once, kept on disk) -> knn, linear, few_shot -> results
            \\-> finetune, by the student pass                              /

`distill.transfer` puts them together. Features are those before the classifier; nothing but `finetune` changes a model.
"""
