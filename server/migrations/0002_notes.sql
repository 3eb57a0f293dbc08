-- Figures that explain a rule's decision: a JSON list of [name, number].
ALTER TABLE round ADD COLUMN notes TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(notes));
