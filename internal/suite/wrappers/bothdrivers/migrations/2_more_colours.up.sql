INSERT INTO colours VALUES ('blue');
