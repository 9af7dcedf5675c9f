"""From what was sent to a signing: validated, digested, sealed."""
