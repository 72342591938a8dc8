"""Secure aggregation: a server that learns the sum of the clients' vectors and nothing else of them."""
