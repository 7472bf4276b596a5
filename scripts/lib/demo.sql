-- The source of scripts/demo: tables with some data, and a procedure that goes on writing to them.
-- SPDX-License-Identifier: GPL-2.0-or-later
CREATE DATABASE demo;
USE demo;

CREATE TABLE control (stop BOOL NOT NULL);
INSERT INTO control VALUES (FALSE);

-- Money moves from account to account and is never made or lost: the sum of all balances is the same at any moment.
CREATE TABLE account (id INT PRIMARY KEY, holder VARCHAR(80) NOT NULL, balance INT NOT NULL, KEY (holder), KEY (balance));
CREATE TABLE transfer (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, giver INT NOT NULL, taker INT NOT NULL,
	amount INT NOT NULL, at DATETIME(6) NOT NULL, note VARCHAR(400), KEY (giver, amount), KEY (taker), KEY (at),
	FOREIGN KEY (giver) REFERENCES account (id), FOREIGN KEY (taker) REFERENCES account (id));
CREATE TABLE document (id INT AUTO_INCREMENT PRIMARY KEY, title VARCHAR(200), body LONGTEXT, FULLTEXT KEY (title));
CREATE TABLE reading (sensor INT NOT NULL, at DATETIME(6) NOT NULL, value DOUBLE, KEY (at), KEY (sensor, at))
	PARTITION BY HASH (sensor) PARTITIONS 4;
CREATE TABLE archive_copy (id INT AUTO_INCREMENT PRIMARY KEY, body TEXT) ROW_FORMAT = COMPRESSED;
CREATE TABLE legacy (id INT AUTO_INCREMENT PRIMARY KEY, what VARCHAR(100), KEY (what)) ENGINE = MyISAM;

SET SESSION cte_max_recursion_depth = 10000000;
INSERT INTO account
	WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows} / 10)
	SELECT i, CONCAT('holder ', SHA2(i, 224)), 1000 FROM n;
INSERT INTO transfer (giver, taker, amount, at, note)
	WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
	SELECT 1 + i MOD ({rows} DIV 10), 1 + i * 7 MOD ({rows} DIV 10), 0, NOW(6), REPEAT(SHA2(i, 256), 1 + i MOD 6) FROM n;
INSERT INTO document (title, body)
	WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows} / 100)
	SELECT CONCAT('document number ', i), REPEAT(SHA2(i, 512), 1 + i * 37 MOD 700) FROM n;
INSERT INTO reading
	WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
	SELECT i MOD 100, NOW(6) - INTERVAL i SECOND, SIN(i) FROM n;
INSERT INTO archive_copy (body) SELECT note FROM transfer LIMIT 20000;
INSERT INTO legacy (what) SELECT holder FROM account LIMIT 5000;

CREATE USER replica@'127.0.0.1' IDENTIFIED BY 'demo';
GRANT REPLICATION SLAVE ON *.* TO replica@'127.0.0.1';
CREATE USER backup@localhost IDENTIFIED BY 'demo';
GRANT BACKUP_ADMIN, PROCESS, RELOAD, SELECT, LOCK TABLES ON *.* TO backup@localhost;

DELIMITER //
CREATE PROCEDURE write_until_told(writer INT)
BEGIN
	DECLARE turn, giver, taker, cash, accounts INT DEFAULT 0;
	-- Deadlocks and lock timeouts are part of life.
	DECLARE CONTINUE HANDLER FOR 1213, 1205 ROLLBACK;
	SELECT COUNT(*) INTO accounts FROM account;
	WHILE NOT (SELECT stop FROM control) DO
		SET turn = turn + 1, giver = 1 + FLOOR(RAND() * accounts), taker = 1 + FLOOR(RAND() * accounts), cash = FLOOR(RAND() * 100);
		START TRANSACTION;
		UPDATE account SET balance = balance - cash WHERE id = giver;
		UPDATE account SET balance = balance + cash WHERE id = taker;
		INSERT INTO transfer (giver, taker, amount, at, note) VALUES (giver, taker, cash, NOW(6), REPEAT(HEX(cash), turn MOD 100));
		IF turn MOD 3 = 0 THEN
			INSERT INTO reading SELECT sensor + 1, NOW(6), value * RAND() FROM reading WHERE sensor = turn MOD 100 LIMIT 20;
		END IF;
		IF turn MOD 11 = 0 THEN
			DELETE FROM transfer WHERE at < NOW(6) - INTERVAL 10 MINUTE ORDER BY id LIMIT 10;
			UPDATE document SET body = REPEAT(HEX(turn), FLOOR(RAND() * 50000)) WHERE id = 1 + FLOOR(RAND() * 500);
		END IF;
		IF turn MOD 7 = 0 THEN ROLLBACK; ELSE COMMIT; END IF;
		IF turn MOD 50 = 0 THEN
			INSERT INTO legacy (what) VALUES (CONCAT('writer ', writer, ', turn ', turn));
			INSERT INTO archive_copy (body) VALUES (REPEAT(HEX(turn), 100));
		END IF;
	END WHILE;
END//
