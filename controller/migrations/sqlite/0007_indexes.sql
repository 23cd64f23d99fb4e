-- What is asked for each deployment must not take longer the more of them there were.
-- What is in an environment, and what was there before, by begin.
CREATE INDEX deployment_begun ON deployment (project, environment, begun_at) WHERE begun_at IS NOT NULL;
CREATE INDEX deployment_good ON deployment (project, environment, begun_at) WHERE state = 'succeeded';
DROP INDEX deployment_in_environment;
