"""Smaller TinyViTs inside a larger one: the space of dimensions, and weights cut out of it."""
