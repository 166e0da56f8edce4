"""Colours of the levels, the same wherever they are shown: in an image's explanation and in a video's timeline."""

# Each with a contrast of 4.5 : 1 to the pages' cards, told apart from each other and from persons' colours by the
# colour-blind too (tests/unit/test_explain.py).
LEVEL_COLOURS = {
    "light": {"head": "#802bfc", "body": "#78080b", "context": "#29796e", "vi": "#3a0a4d", "final": "#1b1d21"},
    "dark": {"head": "#8e6be5", "body": "#caa7ad", "context": "#d0fecd", "vi": "#a0c07d", "final": "#e8eaed"},
}
"""Scheme of the page -> level, V-I or the final answer -> its colour."""
