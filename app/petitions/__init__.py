"""A petition asks a decision-maker for one thing and collects signatures under a campaign.

Its states are `draft -> open -> closed -> archived`; a closed one can be reopened. At `opens_at` and `closes_at` it
opens and closes by itself. Whether it accepts signatures at this moment is decided in one place, `queries.ACCEPTING`,
by the database's clock. There is one text per locale; the petition's own columns hold the text of its own locale.

A petition knows nothing of its signatures. The room above (`signatures/background/milestones.py`) sweeps the tallies
and calls `milestones.reach` with the count, which marks milestones and raises the goal.
"""
