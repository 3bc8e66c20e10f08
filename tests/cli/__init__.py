"""The command line, from words to exit codes."""
