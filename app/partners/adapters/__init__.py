"""Signatures in the shapes of other systems, each translated by one small module into what `inbound/` takes."""
