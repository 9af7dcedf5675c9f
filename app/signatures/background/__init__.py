"""What the worker does about signatures: milestones, consents, mails, withdrawals told, jobs by rule."""
