"""Smaller TinyViTs inside a larger one: the search space of dimensions, and slicing of weights."""
