"""What the command's exit codes mean."""

FAILURE = 1
USAGE = 2
ITEMS_FAILED = 3
INTERRUPTED = 130
