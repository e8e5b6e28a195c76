"""The axis of the images in the results of every operator; one file a family, one registered function a rule.

A rule returns where the images lie in the result, or refuses. Whether that fits the shape of the result is checked
behind it (`robcert.graph.batch`), so a rule only has to say that the operator treats the images one by one.
"""
