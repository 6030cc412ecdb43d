"""Probes: how well a model's features serve other data.

    probed_model -> extraction, features (computed once, cached on disk) -> knn, linear, few_shot -> results
                \\-> finetune, by the student pass                                                 /

`distill.transfer` runs them. Features are the values before the classifier; only `finetune` trains the model itself.
"""
