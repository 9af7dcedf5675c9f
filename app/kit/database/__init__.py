"""PostgreSQL: transactions, group commit, coalesced reads, the transactional outbox, paging, schema version."""
