"""The one exception for mistakes a user can mend; the command lines print its message without a traceback."""


class UserError(ValueError):
    """What was given cannot be used.

    The message says what is wrong, which file, sample or key it concerns, and what to do about it.
    """
