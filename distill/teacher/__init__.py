"""The teacher pass: from views to blocks of a store.

setup         from the settings to the store's spec          run       the pass over the blocks that are missing
learned_tail  how a teacher spreads the mass outside the top-k      recheck   stored logits against the teacher again
dry_run       the first batches, memory and hours; writes nothing
"""
