"""Tasks, the built-in pair, evaluation, the run store, statistics and the command line."""
