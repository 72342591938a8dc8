"""OpenTelemetry metrics over HTTP as a source of events."""
