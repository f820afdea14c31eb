"""What elicits by training: each card trains something small on a base, and stands beside what needs no training."""
