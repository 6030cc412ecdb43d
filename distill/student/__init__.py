"""The student pass: from settings to a trained network.

setup         order, plan, batches, network, evaluation, from the settings     loop    one optimiser step after another
optim         AdamW, layer-wise learning rates, the schedule     meter   numbers of an interval, on the device
run_state     what a run writes, and resumes from     init_weights  weights to begin with     dry_run  memory and hours
"""
