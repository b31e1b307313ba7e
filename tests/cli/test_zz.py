import pytest
CMDS = [l.split() for l in """log
log --graph
show main
tag
status
branch list
diff main hybrid
diff main 20
diff main hybrid --first
replay --verify
verify
gamma
gamma --map
fork trial --from 20
log --branch hybrid --limit 2""".splitlines()]
def test_a(forked, ledger):
    import sys
    outs=[]
    for c in CMDS:
        outs.append((c, ledger(*c)))
    outs.append(("sql", ledger("sql","SELECT region, sum(n) AS n, sum(weight) AS weight FROM commit_entries GROUP BY region ORDER BY region")))
    outs.append(("sqlcsv", ledger("sql","--format","csv","SELECT region, sum(n) AS n, sum(weight) AS weight FROM commit_entries GROUP BY region ORDER BY region")))
    outs.append(("sqljson", ledger("sql","--json","SELECT region, sum(n) AS n, sum(weight_sum) AS weight FROM commit_entries GROUP BY region ORDER BY region")))
    for c in ("log","show main","tag","status","branch list","diff main hybrid","diff main hybrid --first","replay --verify","verify","gamma"):
        j=ledger(*c.split(),"--json").json
        outs.append((c,sorted(j[0] if isinstance(j,list) else j)))
    open("/tmp/clw/outs.txt","w").write("\n\n".join(f"$ {c}\n{getattr(r,'out',r)}{getattr(r,'err','')}" for c,r in outs))
