-- Labels that the agent of a job must have.
ALTER TABLE job ADD COLUMN labels TEXT NOT NULL DEFAULT '{}';
