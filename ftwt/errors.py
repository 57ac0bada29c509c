"""The one exception that ftwt raises for bad input."""


class FtwtError(Exception):
    """Bad input to ftwt, told in one line.

    A message says what was called, what came, what was expected and how to mend it.
    The command line prints it as it is and exits with status 2.
    """

    exit_status = 2
