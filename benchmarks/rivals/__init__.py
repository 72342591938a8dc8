"""The contestants of `peers.py`: one module each, run as `python -m rivals.NAME` in an environment of its own."""
