"""Reading: counts, live streams, breakdowns, and the recount that checks the tallies."""
