"""The teacher pass: from views to blocks of a store.

setup         the parts of a pass, from the settings      run      the pass over the missing blocks
learned_tail  the mean distribution outside the top-k     recheck  stored logits against the teacher, run again
fill          a store from any source of logits           dry_run  memory and hours of a pass; writes nothing
"""
