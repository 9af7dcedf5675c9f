"""Mail: a message, its templates, the transports that hand it over, and the sender that works off what is due."""
