"""What partners can be told: message types, their payloads, and the fan-out to endpoints."""
