"""Steering a language model: the language it writes, how positive it sounds, and whether it works step by step (docs/language.md)."""
