"""What tests and benches share: servers to start, people to make up, the other side of every protocol.

`postgres` (a cluster of one's own and its databases), `services` (our programs as processes), `crowd` (people who keep
signing), `application` (the API and the worker in this process), `databases` (plain SQL, and locks to race for),
`settings`, `factories`, `tallies` (proof that all is counted), `time_travel`; `smtp`, `webhooks`, `certificates`,
`streams` (the other side); `partners`, `partner_posts`, `foreign_payloads`, `outbox`, `invalidations`, `attempts`,
`signing_engine`, `people_mails`, `api_surface`, `docs_examples` (one subject each).
"""
