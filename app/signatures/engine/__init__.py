"""The signing engine: batches, lanes, and the only statements that write signatures and tallies."""
