"""Delivering webhook messages: leases, connections, sending, results."""
