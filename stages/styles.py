"""What every chart of the project shares: colours and markers."""

from collections.abc import Sequence

# Okabe and Ito's colours, which colour-blind readers can tell apart ("Color Universal Design", 2008).
# Their yellow is left out: it is too faint on white. Sky blue is kept for charts that are not about a version.
VERSION_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#000000")
VERSION_MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # 7 markers and 6 colours: 42 versions before a pair comes again
OTHER_COLOUR = "#56B4E9"
FAINT = "#767676"  # as readable on white as on black, 4.5 : 1


def style(index: int) -> dict:
    """Of the version at this index in params.yaml: its `colour`, as an index into VERSION_COLOURS, and its `marker`."""
    return {"colour": index % len(VERSION_COLOURS), "marker": VERSION_MARKERS[index % len(VERSION_MARKERS)]}


def version_styles(versions: Sequence[str]) -> dict[str, dict[str, str]]:
    """Each version's own `color` and `marker`: the same in every chart."""
    styles = {version: style(index) for index, version in enumerate(versions)}
    return {
        version: {"color": VERSION_COLOURS[each["colour"]], "marker": each["marker"]}
        for version, each in styles.items()
    }
