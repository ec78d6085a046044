"""The exception for a mistake that the user can fix."""

LONGEST = 390  # letters of a message


class UserError(Exception):
    """A mistake in the config, data, checkpoint, device or command line.

    Its message is one line: what is wrong, where and how to fix it. The command line prints it and exits with status 2.
    Whatever a file or a user put into it stays on this line, and its middle is left out where it is long.
    """

    def __init__(self, message):
        line = printable(str(message))
        super().__init__(line if len(line) <= LONGEST else f"{line[: LONGEST - 150]} ... {line[-145:]}")


class UserValueError(UserError, ValueError):
    """One of a network's own code, whose callers in Python expect a ValueError."""


def printable(text):
    """Return a text with ? for what does not print: line ends, a terminal's commands, bytes that are not UTF-8."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def as_mistake(error):
    """Return the UserError for one, or for the PermissionError of a path that only other users may look into."""
    return error if isinstance(error, UserError) else UserError(f"{error.filename}: {error.strerror or error}")


def not_written(path, error):
    """Return the UserError for a path that an OSError kept from being written."""
    in_the_way = isinstance(error, (FileExistsError, NotADirectoryError))
    reason = "a file or a dangling link is in the way" if in_the_way else error.strerror or error
    return UserError(f"{path} can't be written: {reason}")
