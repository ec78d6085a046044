"""The one exception for a mistake that the user can fix."""

LONGEST = 500  # letters of a message


class UserError(Exception):
    """A mistake in the config, data, checkpoint, device or command line.

    Its message is one line: what is wrong, where and how to fix it. The command line prints it and exits with status 2.
    Whatever a file or a user put into it stays on this line, and its middle is left out where it is long.
    """

    def __init__(self, message):
        line = "".join(letter if letter.isprintable() else "?" for letter in str(message))
        super().__init__(line if len(line) <= LONGEST else f"{line[: LONGEST - 150]} ... {line[-145:]}")
