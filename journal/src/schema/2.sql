-- Format 2: words of prompts and replies can be searched.
-- The index has no texts of its own, and follows behind: `numbers` has the last turn that is in it. What is newer is
-- searched without it.
CREATE VIRTUAL TABLE words USING fts5 (
  prompt, reply, content = '', contentless_delete = 1, tokenize = 'unicode61 remove_diacritics 2'
);
INSERT INTO numbers VALUES ('indexed', 0);
