"""The built-in pair: its task, corpus, training and exact verifier."""
