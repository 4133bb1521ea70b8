"""Exit codes of the program; argparse adds 2, for an invalid command line."""

# An error of the user, and an interrupt, as in shells.
USER_ERROR, INTERRUPTED = 1, 130
