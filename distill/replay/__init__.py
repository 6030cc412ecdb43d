"""Replaying a store: is it about this data, is it complete, and do its views come out here as the teacher saw them?

open_store  opens a store for training     proofs  views rendered again and held against the store's digests
"""
