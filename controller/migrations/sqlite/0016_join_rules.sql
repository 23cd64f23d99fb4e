-- Machines of a cloud that may join by proof of what they are.
CREATE TABLE join_rule (
    id TEXT PRIMARY KEY,
    pool TEXT NOT NULL,
    labels TEXT NOT NULL,
    conditions TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    revoked_at INTEGER
) STRICT;
-- Where an agent comes from that is bound to a machine, or ephemeral, or both. Others have no row.
CREATE TABLE agent_origin (
    agent TEXT PRIMARY KEY REFERENCES agent (id),
    rule TEXT REFERENCES join_rule (id),
    -- As in aws/111122223333/i-0123456789abcdef0.
    machine TEXT,
    -- SHA-256 of the signing request of its last joining: a lost answer can be asked for again.
    request TEXT NOT NULL,
    -- When its newest certificate ends.
    expires_at INTEGER NOT NULL,
    ephemeral INTEGER NOT NULL,
    -- Since when a person lets its machine join again.
    allowed_at INTEGER,
    -- The agent that its machine is now.
    replaced_by TEXT REFERENCES agent (id),
    gone_at INTEGER,
    gone_why TEXT
) STRICT;
-- One machine is one agent, whoever is faster.
CREATE UNIQUE INDEX agent_origin_machine ON agent_origin (machine) WHERE machine IS NOT NULL AND replaced_by IS NULL;
-- Agents that come in by the token leave the list when they are gone.
ALTER TABLE join_token ADD COLUMN ephemeral INTEGER NOT NULL DEFAULT 0;
