"""Graders: what a response answers, and whether that is the right answer. One grader per module."""
