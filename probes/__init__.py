"""Probes: behaviour labels and controllers that decide when to reason."""
