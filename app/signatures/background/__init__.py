"""The worker's part: the runner of work by rule, and the sweeps for milestones, consents, mails, withdrawals."""
