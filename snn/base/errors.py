"""The one exception for a mistake that the user can fix."""

from contextlib import contextmanager

LONGEST = 500  # letters of a message


class UserError(Exception):
    """A mistake in the config, data, checkpoint, device or command line.

    Its message is one line: what is wrong, where and how to fix it. The command line prints it and exits with status 2.
    Whatever a file or a user put into it stays on this line, and its middle is left out where it is long.
    """

    def __init__(self, message):
        line = "".join(letter if letter.isprintable() else "?" for letter in str(message))
        super().__init__(line if len(line) <= LONGEST else f"{line[: LONGEST - 150]} ... {line[-145:]}")


@contextmanager
def reading(message):
    """Turn whatever a library raises on a file that it can't read into a UserError.

    Libraries raise more on bad bytes than they document. Keep the block small: a fault of ours in it would be blamed on
    the file.

    Args:
        message: the error's, with {reason} for what the library says.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:150] or type(error).__name__
        raise UserError(message.replace("{reason}", reason)) from None
