"""A person's account: signing in by mailed link, sessions, and what is known of a person."""
