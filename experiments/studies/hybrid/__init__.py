"""The hybrid experiment (2510.07364 v4): taxonomy, banks, controls, gates without a thinking model, and its table."""
