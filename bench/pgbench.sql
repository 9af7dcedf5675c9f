-- The least a database can do for one signature in a transaction of its own: a row, and a counter everybody shares.
\set person random(1, 9000000000000)
BEGIN;
INSERT INTO signatures (petition_id, given_name, family_name, email, country)
VALUES (1, 'Amina', 'Okello', 'person.' || :person || '.' || :client_id || '@example.org', 'UG')
ON CONFLICT DO NOTHING;
UPDATE petitions SET signature_count = signature_count + 1 WHERE id = 1;
COMMIT;
