-- Deployments that a step of another deployment began, decisions of people on failed steps, and steps that are left out.

-- The release that each `deploy-release` step deploys, by index of the step. Chosen when the release was made.
ALTER TABLE release ADD COLUMN children TEXT NOT NULL DEFAULT '{}';

-- The deployment and the index of its step that began this one.
ALTER TABLE deployment ADD COLUMN parent TEXT REFERENCES deployment (id);
ALTER TABLE deployment ADD COLUMN parent_step INTEGER;
CREATE INDEX deployment_of_parent ON deployment (parent, parent_step) WHERE parent IS NOT NULL;

-- People decide about a step that failed.
ALTER TABLE deployment ADD COLUMN guided INTEGER NOT NULL DEFAULT 0;
-- Indices of the steps that are not to be run.
ALTER TABLE deployment ADD COLUMN skip TEXT NOT NULL DEFAULT '[]';

-- It failed and people were asked, so its job does not say how it ended.
ALTER TABLE step ADD COLUMN guided INTEGER NOT NULL DEFAULT 0;
