"""Addresses to listen on, as settings spell them."""

LOOPBACK = "127.0.0.1"


def address_of(setting: str, text: str, *, usual_port: int, scheme: str = "") -> tuple[str, int]:
    """The host and port that a setting names.

    Args:
      setting: its name, for the error.
      text: HOST:PORT, after the scheme.
      usual_port: that the error shows.
      scheme: what the text begins with.

    Raises:
      ValueError: when it is no address.
    """
    host, _, port = text.removeprefix(scheme).rpartition(":")
    if not host or not port.isascii() or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{setting}={text} must be as in {scheme}{LOOPBACK}:{usual_port}.")
    return host, int(port)
