"""The search that contracts a large student under hard limits, training candidates briefly from a store.

search     rounds: propose, share out, rank, go on          proposals  which neighbours are tried
proxy      brief training and the score of a candidate      costs      limits, and what candidates cost
held_out   rows that nobody trains on                       records    files of a search, and going on from them
team       several processes, each its own candidates       report     table, plot, path, student
"""
