-- Operations on a stack outside the lifecycle: deployments of one step of a release, with another Pulumi operation.
ALTER TABLE deployment ADD COLUMN operation TEXT;
ALTER TABLE deployment ADD COLUMN operation_step TEXT;
-- The deployment whose outputs count.
ALTER TABLE deployment ADD COLUMN basis TEXT;
