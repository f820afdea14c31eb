"""One question, live: an unsteered and a steered text side by side, token by token, and the run that they make."""
