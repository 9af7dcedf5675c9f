"""Where somebody is, coarsely: a cell of the H3 grid that is never finer than a town's quarter.

A cell of resolution 7 is about 5 square kilometres (h3geo.org, "Tables of cell statistics"). What is finer is made
coarser before it is stored; coordinates are never stored. The library is imported when it is first asked: it takes
2 MiB, and few people name a place.
"""

FINEST = 7


def coarse(cell: str) -> str:
    """A cell, or the one of resolution 7 that contains it; ValueError when it is none."""
    import h3  # type: ignore[import-untyped] # it ships none

    cell = cell.lower()
    if not h3.is_valid_cell(cell):
        raise ValueError("is not an H3 cell")
    coarser: str = h3.cell_to_parent(cell, FINEST) if h3.get_resolution(cell) > FINEST else cell
    return coarser


def containing(latitude: float, longitude: float) -> str:
    """The cell of resolution 7 around a point; degrees."""
    import h3

    cell: str = h3.latlng_to_cell(latitude, longitude, FINEST)
    return cell
