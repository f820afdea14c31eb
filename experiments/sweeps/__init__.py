"""Sweeps: many settings of a plan on the same problems, with their controls; the winner again on problems it was not chosen on."""
