"""A petition asks a decision-maker for one thing and collects signatures under a campaign.

Its life is `draft -> open -> closed -> archived`; a closed one can be reopened. `opens_at` and `closes_at`
act on their own: whether a petition accepts signatures at this moment is decided in one place,
`queries.ACCEPTING`, by the database's clock. Texts exist once per locale; the petition's own columns hold
those of its own locale.

A petition knows nothing of its signatures. The room above (`signatures/background/milestones.py`) sweeps the tallies
and tells it the count (`service.reach`), which marks milestones and raises the goal.
"""
