"""Mail failures: staff read why mails were not sent, as counts by reason.

This room has no `models.py`: the table `mail_failures` is in `kit/mail/failures.py`, because whatever sends mails
writes it. The room only shows what it holds, and never an address: there is none in it.
"""
