"""Replaying a store: whether it belongs to this data, is complete, and its views render here as they did for the
teacher.

open_store  opens a store for training             proofs  views rendered again and compared with the store's proofs
dataset     a store as a torch dataset, for training loops outside this project
"""
