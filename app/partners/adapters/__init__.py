"""Adapters: the shapes in which other systems send signatures, translated into ours."""
