"""A person's own signatures."""
