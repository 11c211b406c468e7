-- Format 3: sessions and owners are sealed as all else is; the rows that are there get their seals from the program.
-- An owner's seal is made from the four columns behind its id, as `closed` changes.
ALTER TABLE sessions ADD COLUMN seal INTEGER;
ALTER TABLE openings ADD COLUMN seal INTEGER;
-- Numbers change too often for a seal; a look at the file as a whole sees that the two fit each other.
ALTER TABLE numbers ADD COLUMN twin INTEGER CHECK (twin = ~last);
UPDATE numbers SET twin = ~last;
