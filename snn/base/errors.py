"""The one exception for a mistake that the user can fix."""


class UserError(Exception):
    """A mistake in the config, data, checkpoint, device or command line.

    Its message is one line: what is wrong, where and how to fix it. The command line prints it and exits with status 2.
    """
