-- The groups of a masked round and what it promised: JSON, empty in clear mode.
ALTER TABLE round ADD COLUMN groups TEXT NOT NULL DEFAULT '' CHECK (groups = '' OR json_valid(groups));

-- What a masked round's machine was told, in order, until the round ends: told again after a restart it stands where it
-- stood. Boxes in it are sealed; shares are given to the server anyway.
CREATE TABLE round_input (
    round    INTEGER NOT NULL REFERENCES round (id),
    sequence INTEGER NOT NULL CHECK (sequence >= 0),
    body     TEXT    NOT NULL CHECK (json_valid(body)),
    PRIMARY KEY (round, sequence)
) STRICT, WITHOUT ROWID;
