-- The queue by what the next turn is found by, so that its length does not matter.
ALTER TABLE job ADD COLUMN project TEXT NOT NULL DEFAULT '';
ALTER TABLE job ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
-- Jobs of one pool, priority and project that ask the same of an agent: only the first of them can be next.
ALTER TABLE job ADD COLUMN line TEXT NOT NULL DEFAULT '';
-- What it asks of its host.
ALTER TABLE job ADD COLUMN resources TEXT NOT NULL DEFAULT '{}';
ALTER TABLE job ADD COLUMN max_running INTEGER;
-- Microseconds: 7 days.
ALTER TABLE job ADD COLUMN max_wait INTEGER NOT NULL DEFAULT 604800000000;
ALTER TABLE job ADD COLUMN waits_since INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN gives_up_at INTEGER NOT NULL GENERATED ALWAYS AS (waits_since + max_wait) VIRTUAL;
UPDATE job SET line = id, waits_since = since,
    project = coalesce((SELECT project_name FROM deployment WHERE deployment.id = job.deployment), ''),
    priority = coalesce((SELECT priority FROM deployment WHERE deployment.id = job.deployment), 0)
    WHERE phase <> 'ended';
CREATE INDEX job_line ON job (pool, line, seq) WHERE phase = 'queued';
CREATE INDEX job_gives_up ON job (gives_up_at) WHERE phase = 'queued';

-- Who waits for what: for each key the deployments that have not begun, in the order they get it. Follows the deployments by itself.
CREATE TABLE waiting (
    place INTEGER PRIMARY KEY AUTOINCREMENT,
    lock_key TEXT NOT NULL,
    deployment TEXT NOT NULL REFERENCES deployment (id),
    child INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    not_before INTEGER
) STRICT;
INSERT INTO waiting (lock_key, deployment, child, priority, not_before)
    SELECT key.value, deployment.id, deployment.parent IS NOT NULL, priority, not_before FROM deployment, json_each(deployment.locks) AS key
    WHERE begun_at IS NULL AND ended_at IS NULL ORDER BY deployment.rowid;
CREATE INDEX waiting_for ON waiting (lock_key, child DESC, priority DESC, place);
CREATE INDEX waiting_of_deployment ON waiting (deployment);
CREATE TRIGGER deployment_waits AFTER INSERT ON deployment WHEN NEW.begun_at IS NULL AND NEW.ended_at IS NULL BEGIN
    INSERT INTO waiting (lock_key, deployment, child, priority, not_before)
        SELECT key.value, NEW.id, NEW.parent IS NOT NULL, NEW.priority, NEW.not_before FROM json_each(NEW.locks) AS key;
END;
CREATE TRIGGER deployment_moves_on AFTER UPDATE OF begun_at, ended_at ON deployment
    WHEN OLD.begun_at IS NULL AND OLD.ended_at IS NULL AND (NEW.begun_at IS NOT NULL OR NEW.ended_at IS NOT NULL) BEGIN
    DELETE FROM waiting WHERE deployment = NEW.id;
END;
CREATE TRIGGER deployment_is_moved AFTER UPDATE OF priority ON deployment WHEN OLD.priority <> NEW.priority BEGIN
    UPDATE waiting SET priority = NEW.priority WHERE deployment = NEW.id;
END;
CREATE INDEX deployment_not_before ON deployment (not_before) WHERE begun_at IS NULL AND ended_at IS NULL;
CREATE INDEX deployment_expires ON deployment (expires_at) WHERE begun_at IS NULL AND ended_at IS NULL;

-- How an agent's own work went; no row: well.
CREATE TABLE agent_health (
    agent TEXT PRIMARY KEY REFERENCES agent (id),
    health TEXT NOT NULL
) STRICT;
