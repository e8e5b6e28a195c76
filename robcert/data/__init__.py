"""Named data sets; one file a source, each registered by its decorator.

To add one: a file here with a function ``Request -> Images`` under ``@dataset("name", ...)``.
"""

from __future__ import annotations

from robcert.data.fit import fit_to
from robcert.data.load import load_dataset, where
from robcert.data.overview import Entry, overview
from robcert.data.source import Images, Request, Source, dataset, datasets
from robcert.data.subset import stratified_order, subset

__all__ = [
    "Entry",
    "Images",
    "Request",
    "Source",
    "dataset",
    "datasets",
    "fit_to",
    "load_dataset",
    "overview",
    "stratified_order",
    "subset",
    "where",
]
