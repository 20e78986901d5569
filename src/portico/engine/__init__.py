"""The threads of one process."""
