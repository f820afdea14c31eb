"""Streamlit pages over stored runs. Reads the run store; loads no model and imports no torch."""
