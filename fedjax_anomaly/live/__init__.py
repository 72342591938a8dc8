"""A trained detector on live streams: events come from a source, are scored, and go to sinks."""
