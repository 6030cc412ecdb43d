"""Errors that a user can cause and fix.

A program prints the message of a `DistillError` without a traceback and exits with 1. The message says what is wrong,
where (store, epoch, row, file) and what to do next. A wrong option or an unknown configuration key is a `UsageError`:
exit code 2. Any other exception is a fault of the program and shows its traceback.
"""


class DistillError(Exception):
    """The requested work cannot be done; the message is meant for the user."""


class UsageError(DistillError):
    """The command or its configuration is wrong."""


class Stopped(Exception):
    """Work was stopped in good order before its end, by a signal or a time limit; the message says how to continue."""


class LossNotFinite(DistillError):
    """A training has diverged: the loss of a step is infinite or not a number."""


class DamagedImage(DistillError):
    """The bytes of an image file are incomplete or cannot be decoded."""
