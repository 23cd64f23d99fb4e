-- The channel of a release. Those from before this are in the one that a project without channels has.
ALTER TABLE release ADD COLUMN channel TEXT NOT NULL DEFAULT 'default';
-- Pages of a channel's releases, newest version first.
CREATE INDEX release_of_channel ON release (project, channel, sort_key);
