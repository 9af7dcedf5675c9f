"""Draw the house from the import graph, into the marked places of `architecture.md`. Run: `python docs/draw_house.py`.

Arrows point from who imports to what is imported. Those that follow from others are left out (transitive reduction):
where A imports B and B imports C, an arrow from A to C says nothing new about the order. A test checks that the
committed drawings are current.
"""

from collections.abc import Iterable
from pathlib import Path

import grimp

_PAGE = Path(__file__).parent / "architecture.md"
# A package whose children are drawn, for each drawing.
DRAWN = ("app", "app.kit", "app.people", "app.signatures", "app.partners", "app.partners.outbound")
_BLOCK = "<!-- house: {package} -->\n{drawing}<!-- /house -->"

Edges = set[tuple[str, str]]


def drawn(page: str) -> str:
    """The page with every marked drawing made anew."""
    graph = grimp.build_graph("app", cache_dir=None)
    for package in DRAWN:
        block = _BLOCK.format(package=package, drawing=_mermaid(package, _edges(graph, package)))
        start, end = page.index(f"<!-- house: {package} -->"), "<!-- /house -->"
        page = page[:start] + block + page[page.index(end, start) + len(end) :]
    return page


def _edges(graph: grimp.ImportGraph, package: str) -> Edges:
    """Which child of the package imports which other one, however deep inside."""
    length = package.count(".") + 2
    found: Edges = set()
    for importer in graph.find_descendants(package):
        source = ".".join(importer.split(".")[:length])
        for imported in graph.find_modules_directly_imported_by(importer):
            if imported.startswith(f"{package}."):
                found.add((source, ".".join(imported.split(".")[:length])))
    return _reduced({(source, target) for source, target in found if source != target})


def _reduced(edges: Edges) -> Edges:
    """Without the edges that a longer way says already."""
    return {edge for edge in edges if not _is_reached(edges - {edge}, *edge)}


def _is_reached(edges: Edges, source: str, target: str) -> bool:
    seen, waiting = {source}, [source]
    while waiting:
        at = waiting.pop()
        for following in sorted(b for a, b in edges if a == at and b not in seen):
            seen.add(following)
            waiting.append(following)
    return target in seen


def _mermaid(package: str, edges: Iterable[tuple[str, str]]) -> str:
    names = {name: name.removeprefix(f"{package}.") for edge in edges for name in edge}
    lines = [f"    {names[source]} --> {names[target]}" for source, target in sorted(edges)]
    return "\n".join(["```mermaid", "graph TD", *lines, "```", ""])


if __name__ == "__main__":
    _PAGE.write_text(drawn(_PAGE.read_text()))
