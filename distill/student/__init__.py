"""The student pass: from settings to a trained network.

setup         order, plan, batches, network, evaluation, from the settings     loop    one optimiser step after another
optim         AdamW, layer-wise learning rates, the schedule      ema       moving average of the weights
meter         numbers of an interval, kept on the device          init_weights  weights to begin with
run_state     what a run writes as it goes, and resumes from      dry_run   the first steps, memory and hours
"""
