"""OSDI: reading petitions and recording signatures in its shape."""
