"""The feed of signers: consents numbered in order, pulled by partners page by page."""
