"""The simulated fleet of microservices behind the `telemetry` data set: queueing, call graph, load, faults, labels."""
