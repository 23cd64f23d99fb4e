-- What is asked for each deployment must not take longer the more of them there were.
-- What is in an environment, and what was there before, by begin.
CREATE INDEX deployment_begun ON deployment (project, environment, begun_at) WHERE begun_at IS NOT NULL;
CREATE INDEX deployment_good ON deployment (project, environment, begun_at) WHERE state = 'succeeded';
DROP INDEX deployment_in_environment;
-- Pages of a list, for each of its filters.
CREATE INDEX deployment_of_project ON deployment (project_name, id);
CREATE INDEX deployment_to ON deployment (environment, id);
-- What runs, in order; asked at every change.
CREATE INDEX attempt_live_in_order ON attempt (id) WHERE phase <> 'ended';
-- The release that holds the same: with the order in it, or the releases of a project are looked through in order.
DROP INDEX release_same;
CREATE INDEX release_same ON release (project, digest, sort_key);
