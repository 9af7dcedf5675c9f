"""A person's account: signing in by a mailed link, sessions, and their details."""
