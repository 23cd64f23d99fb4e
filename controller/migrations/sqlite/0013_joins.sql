-- Join tokens that let more than one agent in, with the labels that those agents get.
ALTER TABLE join_token ADD COLUMN uses INTEGER NOT NULL DEFAULT 1;
ALTER TABLE join_token ADD COLUMN labels TEXT NOT NULL DEFAULT '{}';
ALTER TABLE join_token ADD COLUMN revoked_at INTEGER;
-- One row an agent that came in by a token. `request` is the SHA-256 of its signing request: a lost answer can be asked for again.
CREATE TABLE join_use (
    token TEXT NOT NULL REFERENCES join_token (id),
    request TEXT NOT NULL,
    agent TEXT NOT NULL REFERENCES agent (id),
    used_at INTEGER NOT NULL,
    PRIMARY KEY (token, request)
) STRICT;
INSERT INTO join_use (token, request, agent, used_at)
SELECT id, used_for, used_by, used_at FROM join_token WHERE used_by IS NOT NULL AND used_for IS NOT NULL AND used_at IS NOT NULL;
-- Labels come from the token, never from the agent.
ALTER TABLE agent ADD COLUMN labels TEXT NOT NULL DEFAULT '{}';
