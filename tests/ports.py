"""Ports for servers that tests start."""

import socket


def free_port() -> int:
    """One that nobody listens on; nothing keeps it free."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]
