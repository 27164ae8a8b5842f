# SPDX-License-Identifier: GPL-2.0-or-later
"""SQLite in memory: insert, index, select, update. Usage: sqlite.py ROWS"""
import sqlite3
import sys


def main(rows):
    db = sqlite3.connect(":memory:")
    db.execute("create table t (a integer, b text, c real)")
    db.executemany("insert into t values (?, ?, ?)",
                   ((i * 7919 % rows, "row number %d" % (i % 997), i / 3) for i in range(rows)))
    db.execute("create index ta on t (a)")
    db.execute("create index tb on t (b, a)")
    total = sum(db.execute("select count(*), sum(c) from t where a between ? and ?", (i * 10, i * 10 + 50)).fetchone()[0]
                for i in range(rows // 20))
    db.execute("update t set c = c + 1 where a % 3 = 0")
    groups = db.execute("select b, sum(c) from t group by b order by 2 desc limit 5").fetchall()
    print(total, groups)


main(int(sys.argv[1]))
