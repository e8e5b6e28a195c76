"""No module imports another one that imports it."""

from __future__ import annotations

import grimp


def test_there_are_no_circles() -> None:
    graph = grimp.build_graph("robcert", exclude_type_checking_imports=True)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules - {"robcert"}}
    assert len(imports) > 300
    left = dict(imports)
    while left:  # what imports nothing that is left is no part of a circle
        free = {module for module, imported in left.items() if not imported & left.keys() - {module}}
        assert free, f"among these modules is a circle: {sorted(left)}"
        left = {module: imported for module, imported in left.items() if module not in free}
