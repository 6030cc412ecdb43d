"""The student pass: from settings to a trained network.

setup      order, plan, loss, batches, network, from the settings     evaluator     scores while training
loop       one optimiser step after another                           optim         AdamW, layer-wise learning rates
meter      means of a log interval, on the device                     init_weights  weights to start from
run_state  checkpoints and metrics, to resume from                    dry_run       memory and hours; writes nothing
"""
