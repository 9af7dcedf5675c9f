"""Who runs things: the movement and its partner organizations, and the keys by which they act.

There is exactly one movement (slug `movement`, made by the first migration); all other organizations are partners. An
API key belongs to an organization and has one role: of the movement's staff (`owner`, `campaigner`, `analyst`,
`data_officer`) or `partner`. It is shown once, when it is made; only its SHA-256 digest is kept. It ends by expiring or
by being revoked, with all keys made with it, and is never deleted: who acted must stay known. What is done with a key
is entered in the audit log (`audit/`); what cannot be undone waits (`pending_acts/`).
"""
