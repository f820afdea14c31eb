"""Groups of the command line, one noun per module."""
