"""From the body that a signer sent to the row of a signature: validated, digested, sealed."""
