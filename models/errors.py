"""Errors of models and of files of weights."""


class ModelError(Exception):
    """A model cannot be built with the given arguments; the message says what to change."""


class WeightsError(ModelError):
    """A file of weights cannot be read or written, or does not fit the model; the message names file and reason."""
