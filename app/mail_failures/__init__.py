"""Mail failures: staff read why mails were not sent, as counts by reason.

Whatever sends mails keeps the last failure of each in `kit/mail/failures.py`. This room only shows them, and never an
address: neither does that table hold one.
"""
