-- Secret samples. Clients that a task samples from.
CREATE TABLE registered (
    task   INTEGER NOT NULL REFERENCES task (id),
    client TEXT    NOT NULL,
    at     INTEGER NOT NULL,
    PRIMARY KEY (task, client)
) STRICT, WITHOUT ROWID;

-- Whether nobody may learn who and how many were drawn: its events tell neither.
ALTER TABLE round ADD COLUMN secret INTEGER NOT NULL DEFAULT 0 CHECK (secret IN (0, 1));
