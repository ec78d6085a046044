"""The one exception for what a user can mend."""


class UserError(Exception):
    """A mistake in the config, data, checkpoint, device or command line.

    Its text is one line: what is wrong, where, and how to mend it. The command line prints it and exits with status 2.
    """
