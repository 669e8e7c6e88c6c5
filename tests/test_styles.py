"""The colours and markers of all charts."""

from stages.styles import version_styles


def test_a_version_has_its_own_colour_and_marker():
    styles = version_styles([f"v{number}" for number in range(42)])
    assert len({tuple(style.items()) for style in styles.values()}) == 42
