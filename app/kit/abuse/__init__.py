"""Protection from abuse: rate limits, proof-of-work challenges, and client addresses known by a digest only."""
