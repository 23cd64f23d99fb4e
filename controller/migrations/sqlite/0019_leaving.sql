-- A person wants an agent to take no more jobs: why, who, since when. All three or none.
ALTER TABLE agent ADD COLUMN drain_reason TEXT;
ALTER TABLE agent ADD COLUMN drained_by TEXT;
ALTER TABLE agent ADD COLUMN drained_at INTEGER;
-- Why an attempt's agent cancels it by itself: its machine has to go.
ALTER TABLE attempt ADD COLUMN cancel_cause TEXT;
