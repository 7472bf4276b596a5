-- One of every kind of thing that a backup of MySQL 8.0.30 to 9.7 must bring across. See zoo.rs, which fills in {rows}, {seed} and
-- {outside} (a folder outside the datadir that innodb_directories names) and leaves out what the page size doesn't allow.
-- Rows are the same for the same seed. SHA2 stands in for random text, AES over a constant for incompressible bytes of any length.

SET NAMES utf8mb4;
SET SESSION sql_mode = DEFAULT, SESSION cte_max_recursion_depth = 1000000, SESSION block_encryption_mode = 'aes-256-cbc';
SET SESSION time_zone = '+00:00';
CREATE DATABASE zoo;
USE zoo;

CREATE FUNCTION hex64(salt VARCHAR(50), n BIGINT) RETURNS CHAR(64) DETERMINISTIC NO SQL
  RETURN SHA2(CONCAT({seed}, '/', salt, '/', n), 256);
CREATE FUNCTION noise(salt VARCHAR(50), n BIGINT, len BIGINT) RETURNS LONGBLOB DETERMINISTIC NO SQL
  RETURN LEFT(AES_ENCRYPT(REPEAT('.', len), hex64(salt, n), LEFT(hex64('iv', n), 16)), len);

CREATE TABLE numbers (n INT PRIMARY KEY);
INSERT INTO numbers WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {rows}) SELECT n FROM c;

-- Row formats. Some values lie off the page; some rows change and some go.

CREATE TABLE shape (
  k VARCHAR(130) CHARACTER SET ascii NOT NULL, i INT, t TIMESTAMP(6) NULL, d DECIMAL(20, 6), c CHAR(40) CHARACTER SET utf8mb4, v VARCHAR(300), b BLOB, bits BIT(13),
  e ENUM('lion', 'gnu', 'yak'), s SET('fur', 'claws', 'horns'), PRIMARY KEY (k), KEY (i), KEY (v(30), d), UNIQUE KEY (c, i DESC)
) ROW_FORMAT = DYNAMIC;
CREATE TABLE row_redundant LIKE shape;
ALTER TABLE row_redundant ROW_FORMAT = REDUNDANT;
CREATE TABLE row_compact LIKE shape;
ALTER TABLE row_compact ROW_FORMAT = COMPACT;
CREATE TABLE row_dynamic LIKE shape;
-- if compressed
CREATE TABLE row_compressed_1 LIKE shape;
ALTER TABLE row_compressed_1 ROW_FORMAT = COMPRESSED KEY_BLOCK_SIZE = 1;
CREATE TABLE row_compressed_2 LIKE shape;
ALTER TABLE row_compressed_2 ROW_FORMAT = COMPRESSED KEY_BLOCK_SIZE = 2;
CREATE TABLE row_compressed_4 LIKE shape;
ALTER TABLE row_compressed_4 ROW_FORMAT = COMPRESSED KEY_BLOCK_SIZE = 4;
-- end
-- if compressed_8
CREATE TABLE row_compressed_8 LIKE shape;
ALTER TABLE row_compressed_8 ROW_FORMAT = COMPRESSED KEY_BLOCK_SIZE = 8;
-- end
-- if compressed_16
CREATE TABLE row_compressed_16 LIKE shape;
ALTER TABLE row_compressed_16 ROW_FORMAT = COMPRESSED KEY_BLOCK_SIZE = 16;
-- end
-- if page_compression
CREATE TABLE page_zlib LIKE shape;
ALTER TABLE page_zlib COMPRESSION = 'zlib';
CREATE TABLE page_lz4 LIKE shape;
ALTER TABLE page_lz4 COMPRESSION = 'lz4';
-- end

INSERT INTO shape
  SELECT CONCAT(hex64('k', n), REPEAT(hex64('l', n), n % 2)), n % 997, FROM_UNIXTIME(1700000000 + n * 7.25), n * 1.234567, LEFT(hex64('c', n), 39),
    REPEAT(LEFT(hex64('v', n), 10), n % 30), IF(n % 50 = 0, noise('b', n, 20000 + n % 7000), noise('b', n, n % 200)), n % 8192, 1 + n % 3, n % 8
  FROM numbers;

DELIMITER //
CREATE PROCEDURE fill_like_shape()
BEGIN
  DECLARE done INT DEFAULT 0;
  DECLARE one VARCHAR(64);
  DECLARE all_of_them CURSOR FOR SELECT table_name FROM information_schema.tables
    WHERE table_schema = 'zoo' AND (table_name LIKE 'row\_%' OR table_name IN ('page_zlib', 'page_lz4')) ORDER BY table_name;
  DECLARE CONTINUE HANDLER FOR NOT FOUND SET done = 1;
  OPEN all_of_them;
  fill: LOOP
    FETCH all_of_them INTO one;
    IF done THEN LEAVE fill; END IF;
    SET @insert = CONCAT('INSERT INTO ', one, ' SELECT * FROM shape');
    PREPARE it FROM @insert; EXECUTE it;
    SET @update = CONCAT('UPDATE ', one, ' SET v = CONCAT(v, ''changed''), b = zoo.noise(''changed'', i, 300) WHERE i % 13 = 0');
    PREPARE it FROM @update; EXECUTE it;
    SET @delete = CONCAT('DELETE FROM ', one, ' WHERE i % 17 = 0');
    PREPARE it FROM @delete; EXECUTE it;
  END LOOP;
  DEALLOCATE PREPARE it;
END//
DELIMITER ;
CALL fill_like_shape();

-- if page_compression
CREATE TABLE page_text (id INT PRIMARY KEY, v TEXT) COMPRESSION = 'zlib';
INSERT INTO page_text SELECT n, REPEAT(hex64('pt', n), 10 + n % 40) FROM numbers;
-- end

-- Wide keys make a tree of three levels and more. No primary key; an invisible column; the system tablespace.

CREATE TABLE deep (k VARCHAR(180) CHARACTER SET utf8mb4 PRIMARY KEY, n INT, KEY (n));
INSERT INTO deep SELECT REPEAT(CONCAT(hex64('d', n), 'ß'), 2), n FROM numbers;
INSERT INTO deep SELECT CONCAT(LEFT(k, 100), '+', LEFT(k, 70)), -n FROM deep;
DELETE FROM deep WHERE n % 7 = 0;
CREATE TABLE keyless (a INT, b VARCHAR(100), hidden INT DEFAULT 7 INVISIBLE);
INSERT INTO keyless (a, b) SELECT n, hex64('keyless', n) FROM numbers;
CREATE TABLE in_system (id BIGINT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(200), KEY (v(100))) TABLESPACE = innodb_system;
INSERT INTO in_system (v) SELECT REPEAT(hex64('system', n), 3) FROM numbers;

-- Partitions, subpartitions, files in another directory.

CREATE TABLE part_range (id INT NOT NULL, v VARCHAR(100), PRIMARY KEY (id), KEY (v)) PARTITION BY RANGE (id) (
  PARTITION p0 VALUES LESS THAN (100), PARTITION `p Ä.1` VALUES LESS THAN (1000) DATA DIRECTORY = '{outside}', PARTITION pmax VALUES LESS THAN MAXVALUE);
INSERT INTO part_range SELECT n, hex64('range', n) FROM numbers;
CREATE TABLE part_sub (id INT NOT NULL, y INT NOT NULL, v VARBINARY(200), PRIMARY KEY (id, y)) PARTITION BY LIST (y) SUBPARTITION BY HASH (id) SUBPARTITIONS 3 (
  PARTITION even VALUES IN (0, 2, 4), PARTITION odd VALUES IN (1, 3, 5));
INSERT INTO part_sub SELECT n, n % 6, noise('sub', n, 150) FROM numbers;
CREATE TABLE part_key (id INT NOT NULL PRIMARY KEY, v INT) PARTITION BY KEY (id) PARTITIONS 5;
INSERT INTO part_key SELECT n, n * n FROM numbers;
CREATE TABLE data_directory (id INT PRIMARY KEY, v VARCHAR(100)) DATA DIRECTORY = '{outside}';
INSERT INTO data_directory SELECT n, hex64('dd', n) FROM numbers;

-- General and undo tablespaces.

CREATE TABLESPACE zoo_general ADD DATAFILE 'zoo_general.ibd';
CREATE TABLESPACE `zoo outside` ADD DATAFILE '{outside}/zoo outside.ibd';
CREATE TABLE general_1 (id INT PRIMARY KEY, v VARCHAR(200)) TABLESPACE = zoo_general;
CREATE TABLE general_2 (id INT PRIMARY KEY, v TEXT) TABLESPACE = zoo_general ROW_FORMAT = REDUNDANT;
CREATE TABLE general_3 (id INT PRIMARY KEY, v BLOB) TABLESPACE = `zoo outside`;
INSERT INTO general_1 SELECT n, hex64('g1', n) FROM numbers;
INSERT INTO general_2 SELECT n, REPEAT(hex64('g2', n), n % 10) FROM numbers;
INSERT INTO general_3 SELECT n, noise('g3', n, n) FROM numbers WHERE n % 5 = 0;
-- if compressed
CREATE TABLESPACE zoo_zip ADD DATAFILE 'zoo_zip.ibd' FILE_BLOCK_SIZE = 2048;
CREATE TABLE general_zip (id INT PRIMARY KEY, v TEXT) TABLESPACE = zoo_zip ROW_FORMAT = COMPRESSED KEY_BLOCK_SIZE = 2;
INSERT INTO general_zip SELECT n, REPEAT(hex64('gz', n), n % 10) FROM numbers;
-- end
CREATE UNDO TABLESPACE zoo_undo ADD DATAFILE 'zoo_undo.ibu';
CREATE UNDO TABLESPACE zoo_undo_outside ADD DATAFILE '{outside}/zoo_undo_outside.ibu';

-- FULLTEXT, SPATIAL, JSON, vectors, large objects.

CREATE TABLE words (id INT AUTO_INCREMENT PRIMARY KEY, title VARCHAR(200), body TEXT, FULLTEXT KEY (title), FULLTEXT KEY (title, body), FULLTEXT KEY grams (body) WITH PARSER ngram);
INSERT INTO words (title, body)
  SELECT CONCAT('animal ', hex64('w', n)), CONCAT_WS(' ', ELT(1 + n % 5, 'lion', 'zebra', 'okapi', 'ибис', '熊猫'), LEFT(hex64('w1', n), 6), LEFT(hex64('w2', n), 4), 'keeper')
  FROM numbers WHERE n <= 1000;
DELETE FROM words WHERE id % 10 = 3;
CREATE TABLE places (id INT PRIMARY KEY, at POINT NOT NULL SRID 4326, area GEOMETRY NOT NULL SRID 0, name VARCHAR(50), SPATIAL KEY (at), SPATIAL KEY (area));
INSERT INTO places
  SELECT n, ST_SRID(POINT(RAND({seed} + n) * 360 - 180, RAND({seed} + n + 1) * 180 - 90), 4326), ST_Buffer(POINT(n % 100, n DIV 100), 1 + n % 4), LEFT(hex64('place', n), 20)
  FROM numbers;
DELETE FROM places WHERE id % 7 = 0;
CREATE TABLE documents (id INT PRIMARY KEY, doc JSON, tags JSON, name VARCHAR(64) GENERATED ALWAYS AS (doc ->> '$.name') VIRTUAL, size INT GENERATED ALWAYS AS (JSON_LENGTH(doc)) STORED,
  KEY (name), KEY (size), KEY many ((CAST(tags AS UNSIGNED ARRAY))), KEY functional ((UPPER(name))));
INSERT INTO documents (id, doc, tags)
  SELECT n, JSON_OBJECT('name', LEFT(hex64('doc', n), 12), 'n', n, 'text', REPEAT(hex64('text', n), IF(n % 100 = 0, 2000, n % 20))), JSON_ARRAY(n % 10, n % 11, n % 12) FROM numbers;
UPDATE documents SET doc = JSON_SET(doc, '$.n', -id) WHERE id % 9 = 0;
UPDATE documents SET doc = JSON_REPLACE(doc, '$.text', REPEAT('z', 500)) WHERE id % 100 = 0;
CREATE TABLE large (id INT PRIMARY KEY, content LONGBLOB, story LONGTEXT);
INSERT INTO large SELECT n, noise('large', n, n * 100000), REPEAT(hex64('story', n), n * 1000) FROM numbers WHERE n <= 20;
UPDATE large SET content = noise('large again', id, 50000) WHERE id % 4 = 0;
-- if compressed
CREATE TABLE large_zip (id INT PRIMARY KEY, content LONGBLOB, story LONGTEXT) ROW_FORMAT = COMPRESSED KEY_BLOCK_SIZE = 4;
INSERT INTO large_zip SELECT id, content, story FROM large WHERE id <= 10;
-- end
CREATE TABLE vectors (id INT PRIMARY KEY, v VECTOR(4));
INSERT INTO vectors SELECT n, STRING_TO_VECTOR(CONCAT('[', n, ',', n / 2, ',', n / 3, ',', n / 4, ']')) FROM numbers WHERE n <= 100;

-- Generated columns, constraints, foreign keys, triggers, events, routines, views, histograms.

CREATE TABLE computed (id INT PRIMARY KEY, a INT, b INT, total INT AS (a + b) VIRTUAL, product BIGINT AS (a * b) STORED, txt VARCHAR(80) AS (CONCAT(a, '-', b)) VIRTUAL,
  KEY (total), KEY (product), UNIQUE KEY (txt, id), CONSTRAINT sane CHECK (a >= 0));
INSERT INTO computed (id, a, b) SELECT n, n % 100, n FROM numbers;
UPDATE computed SET b = b + 1 WHERE id % 3 = 0;
CREATE TABLE keepers (id INT PRIMARY KEY, name VARCHAR(50) NOT NULL UNIQUE);
CREATE TABLE animals (id INT AUTO_INCREMENT PRIMARY KEY, keeper INT, mother INT, name VARCHAR(50),
  FOREIGN KEY (keeper) REFERENCES keepers (id) ON DELETE SET NULL ON UPDATE CASCADE, FOREIGN KEY (mother) REFERENCES animals (id) ON DELETE CASCADE);
CREATE TABLE journal (id BIGINT AUTO_INCREMENT PRIMARY KEY, at TIMESTAMP(3) DEFAULT CURRENT_TIMESTAMP(3), word VARCHAR(100));
DELIMITER //
CREATE TRIGGER animals_in AFTER INSERT ON animals FOR EACH ROW INSERT INTO journal (word) VALUES (CONCAT('came: ', NEW.name))//
CREATE TRIGGER animals_out BEFORE DELETE ON animals FOR EACH ROW INSERT INTO journal (word) VALUES (CONCAT('went: ', OLD.name))//
CREATE PROCEDURE feed(IN how_often INT)
BEGIN
  WHILE how_often > 0 DO
    INSERT INTO journal (word) VALUES ('fed');
    SET how_often = how_often - 1;
  END WHILE;
END//
CREATE FUNCTION head_count() RETURNS INT READS SQL DATA RETURN (SELECT COUNT(*) FROM animals)//
CREATE EVENT nightly ON SCHEDULE EVERY 1 DAY STARTS '2037-01-01 00:00:00' DO CALL feed(1)//
DELIMITER ;
INSERT INTO keepers SELECT n, CONCAT('keeper ', n) FROM numbers WHERE n <= 50;
INSERT INTO animals (keeper, mother, name) SELECT 1 + n % 50, NULL, LEFT(hex64('animal', n), 20) FROM numbers WHERE n <= 500;
UPDATE animals SET mother = id - 100 WHERE id > 400;
DELETE FROM keepers WHERE id % 10 = 0;
DELETE FROM animals WHERE id BETWEEN 301 AND 310;
CALL feed(10);
CREATE VIEW well_kept AS SELECT a.id, a.name, k.name AS keeper FROM animals a JOIN keepers k ON k.id = a.keeper WITH CASCADED CHECK OPTION;
CREATE ALGORITHM = TEMPTABLE SQL SECURITY INVOKER VIEW head_counts AS SELECT keeper, COUNT(*) AS n FROM animals GROUP BY keeper;
ANALYZE TABLE computed UPDATE HISTOGRAM ON a, b WITH 16 BUCKETS;

-- Columns added and dropped at once, with rows of every version.

CREATE TABLE instant (id INT AUTO_INCREMENT PRIMARY KEY, a VARCHAR(50), b INT, KEY (b));
INSERT INTO instant (a, b) SELECT LEFT(hex64('i1', n), 30), n FROM numbers;
ALTER TABLE instant ADD COLUMN c INT NOT NULL DEFAULT 42, ALGORITHM = INSTANT;
INSERT INTO instant (a, b, c) SELECT LEFT(hex64('i2', n), 30), n, n FROM numbers WHERE n <= 500;
ALTER TABLE instant ADD COLUMN first_one VARCHAR(20) DEFAULT 'first' FIRST, ALGORITHM = INSTANT;
ALTER TABLE instant DROP COLUMN a, ALGORITHM = INSTANT;
INSERT INTO instant (b, c) SELECT n, -n FROM numbers WHERE n <= 500;
ALTER TABLE instant ADD COLUMN d TEXT AFTER b, RENAME COLUMN c TO renamed, ALGORITHM = INSTANT;
UPDATE instant SET d = REPEAT('d', id % 2000) WHERE id % 11 = 0;
DELETE FROM instant WHERE id % 19 = 0;
CREATE TABLE instant_redundant (id INT PRIMARY KEY, a INT, b VARCHAR(20)) ROW_FORMAT = REDUNDANT;
INSERT INTO instant_redundant SELECT n, n, LEFT(hex64('ir', n), 20) FROM numbers;
ALTER TABLE instant_redundant ADD COLUMN z INT DEFAULT 5, ALGORITHM = INSTANT;
ALTER TABLE instant_redundant DROP COLUMN a, ALGORITHM = INSTANT;
UPDATE instant_redundant SET z = id WHERE id % 3 = 0;
CREATE TABLE instant_parted (id INT PRIMARY KEY, a INT) PARTITION BY HASH (id) PARTITIONS 3;
INSERT INTO instant_parted SELECT n, n FROM numbers;
ALTER TABLE instant_parted ADD COLUMN z VARCHAR(10) DEFAULT 'zzz', ALGORITHM = INSTANT;
INSERT INTO instant_parted SELECT n + 1000000, n, 'new' FROM numbers WHERE n <= 100;

-- Other engines.

CREATE TABLE my_plain (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(100), t TEXT, KEY (v), FULLTEXT KEY (t)) ENGINE = MyISAM;
INSERT INTO my_plain (v, t) SELECT hex64('my', n), CONCAT('lion ', hex64('mt', n)) FROM numbers;
DELETE FROM my_plain WHERE id % 5 = 0;
CREATE TABLE my_fixed (id INT PRIMARY KEY, c CHAR(20)) ENGINE = MyISAM ROW_FORMAT = FIXED CHECKSUM = 1;
INSERT INTO my_fixed SELECT n, LEFT(hex64('mf', n), 20) FROM numbers;
CREATE TABLE my_outside (id INT PRIMARY KEY, v VARCHAR(100)) ENGINE = MyISAM;
INSERT INTO my_outside SELECT n, hex64('mo', n) FROM numbers;
CREATE TABLE merge_1 (id INT, v VARCHAR(64), KEY (id)) ENGINE = MyISAM;
CREATE TABLE merge_2 LIKE merge_1;
INSERT INTO merge_1 SELECT n, hex64('m1', n) FROM numbers;
INSERT INTO merge_2 SELECT n, hex64('m2', n) FROM numbers;
CREATE TABLE merged (id INT, v VARCHAR(64), KEY (id)) ENGINE = MERGE UNION = (merge_1, merge_2) INSERT_METHOD = LAST;
CREATE TABLE archived (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(100)) ENGINE = ARCHIVE;
INSERT INTO archived (v) SELECT hex64('ar', n) FROM numbers;
CREATE TABLE comma (id INT NOT NULL, v VARCHAR(100) NOT NULL) ENGINE = CSV;
INSERT INTO comma SELECT n, hex64('csv', n) FROM numbers;
CREATE TABLE forgetful (id INT) ENGINE = MEMORY;
CREATE TABLE hole (id INT) ENGINE = BLACKHOLE;

-- Names.

CREATE DATABASE `zoo with spaces. and dots`;
CREATE DATABASE `зоопарк-äß@动物`;
CREATE TABLE `zoo with spaces. and dots`.`a table. with #p#p0 / \\ and %` (`id column` INT PRIMARY KEY, v VARCHAR(100));
INSERT INTO `zoo with spaces. and dots`.`a table. with #p#p0 / \\ and %` SELECT n, hex64('name1', n) FROM numbers;
CREATE TABLE `зоопарк-äß@动物`.`Löwe 熊猫` (id INT PRIMARY KEY, v VARCHAR(100)) ENGINE = MyISAM;
INSERT INTO `зоопарк-äß@动物`.`Löwe 熊猫` SELECT n, hex64('name3', n) FROM numbers;
CREATE TABLE `зоопарк-äß@动物`.`Бегемот.ibd` (id INT PRIMARY KEY, `ключ` VARCHAR(100), KEY `индекс` (`ключ`)) PARTITION BY HASH (id) PARTITIONS 2;
INSERT INTO `зоопарк-äß@动物`.`Бегемот.ibd` SELECT n, hex64('name2', n) FROM numbers;
CREATE TABLE `зоопарк-äß@动物`.`back``tick, 'quotes" | $HOME *` (id INT);
CREATE TABLE zoo.`MixedCase` (id INT PRIMARY KEY);
CREATE TABLE zoo.`mixedcase` (id INT PRIMARY KEY, v INT);
CREATE DATABASE `empty schema`;

-- Accounts travel with mysql.ibd.

CREATE USER 'visitor'@'%' IDENTIFIED BY 'ticket';
GRANT SELECT ON zoo.* TO 'visitor'@'%';

DROP PROCEDURE fill_like_shape;
