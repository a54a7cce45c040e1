INSERT INTO colours VALUES ('red'), ('green');
