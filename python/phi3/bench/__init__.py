"""`phi3 bench`: how fast a model runs here, what the machine would allow, and how others do.

command.py has the options, plan.py says what is measured, measure.py runs the engines (engines/,
each in a process of its own, child.py), bounds.py knows what the machine allows, result.py makes
medians, ratios and shares of the bounds, table.py and plot.py show them.
"""
