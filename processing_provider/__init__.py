"""The Processing provider: a form for each algorithm. Parameters in, one job, styled layers out.

`provider.py` lists the algorithms, `base.py` is what they share, `algorithms/` has one file each.
"""
