"""What every layer stands on, and which knows no layer itself.

In reading order: ``units`` (SI prefixes and how a quantity is printed), ``fact`` (a number with
its source), ``ledger`` (one line of the prompt's bill), ``timing`` (measure once, measure against
a peer), ``machine`` (what this computer is), ``checks`` (exercises that grade themselves) and
``figures`` (plots with alt text and a data table; the only one that needs plotly, when called).
"""
