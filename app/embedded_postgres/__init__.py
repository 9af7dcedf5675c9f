"""An embedded PostgreSQL: binaries found or copied, a cluster made, one server run beside the service."""
