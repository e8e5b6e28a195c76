"""What a file or a folder is called does not reach the terminal as a control sequence."""

from __future__ import annotations

import json

import pytest

from robcert.text import plain_lines, shown

NAMES = ["m\x1b[2J", "\x1b]0;title\x07", "a\rb", "a\x9b2Jb", "a\x7fb", "a\x08b", "\x1b[8mhidden"]


@pytest.mark.parametrize("name", NAMES)
def test_control_sequences_become_visible(name: str) -> None:
    for printed in (plain_lines(f"one {name}\ntwo"), shown(f"one {name}\ntwo", colours=False)):
        assert all(one.isprintable() or one == "\n" for one in printed)
        assert printed.startswith("one ") and printed.endswith("\ntwo") and printed.count("\n") == 1


def test_colours_stay_where_they_are_wanted() -> None:
    assert shown("\x1b[1;31mred\x1b[0m", colours=True) == "\x1b[1;31mred\x1b[0m"
    assert shown("\x1b[2J\x1b[31mred", colours=True) == "\\u001b[2J\x1b[31mred"


@pytest.mark.parametrize("name", [*NAMES, "é\u200d\u202e中"])
def test_json_means_what_it_meant(name: str) -> None:
    text = json.dumps({"name": name}, ensure_ascii=False)
    assert json.loads(shown(text, colours=False)) == {"name": name}


def test_ordinary_text_is_not_touched() -> None:
    text = "│ naïve 中文 │\n\ttab"
    assert shown(text, colours=False) == text
    assert plain_lines("naïve 中文\nx" * 100) == "naïve 中文\nx" * 100
