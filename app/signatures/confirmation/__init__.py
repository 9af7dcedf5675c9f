"""Confirming and withdrawing by the link in a mail: what it would confirm is shown first, and no more is proven."""
