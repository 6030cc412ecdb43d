"""The search that contracts a large student under hard limits, by training candidates briefly from a store.

search           the rounds: propose, train, rank, select     proposals   the neighbours that a round tries
train_candidate  brief training and score of a candidate      costs       limits, and the costs of architectures
held_out         rows that no candidate trains on             search_dir  the files of a search, for restarts
task_queue       several processes, each its own candidates   report      table, plot, path, resulting student
dry_run          how long a search would take
"""
