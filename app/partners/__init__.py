"""Partner organizations: signatures that come in from them, and news that goes out to them.

A partner is invited to a campaign under written terms and feeds and reads nothing outside them. What it posts is
signed, verified against every live secret, counted once however often it is sent, and answered item by item; all
of it goes through the signing engine. What it is told is found afterwards: lower rooms write outbox messages in their
own transactions, one sweep makes webhook messages of them, and the worker delivers these, each endpoint by itself. A
message names things by their ids; its body is written when it is sent, so that nobody is named who has taken a consent
back or been erased meanwhile.
"""
