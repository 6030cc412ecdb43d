"""What can be wrong with a request for a model or with a file of weights."""


class ModelError(Exception):
    """A model cannot be built as asked; the message says what to change."""


class WeightsError(ModelError):
    """A file of weights cannot be read, or does not fit the model; the message names file and reason."""
