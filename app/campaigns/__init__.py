"""A campaign is the umbrella over what people do for one goal.

The goal is a statement and, where it can be put in numbers, a metric that goes from a start to a target. The targets
are the decision-makers who can grant it; dated updates tell how it goes; the outcome tells how it ended.

Its states are `draft -> active <-> paused -> won | lost -> archived`. A campaign that is won or lost always has an
outcome, and only staff see a draft.
"""
