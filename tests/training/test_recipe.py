"""Recipes: read, checked, and what a wrong one says."""

from __future__ import annotations

from pathlib import Path

import pytest

from robcert.errors import UsageError
from robcert.training import read_recipe
from robcert.training.objectives.adversarial import Adversarial
from robcert.training.objectives.cross_entropy import CrossEntropy
from robcert.training.objectives.l2nnn import L2NNN

GOOD = """
name = "tiny"
epochs = 2
[architecture]
name = "linear"
"""
ZOO = Path(__file__).resolve().parents[2] / "models"


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def test_defaults(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, GOOD))
    assert recipe == read_recipe(tmp_path), "a folder means its recipe.toml"
    assert recipe.objective == CrossEntropy()
    assert recipe.data == "digits"


@pytest.mark.parametrize("path", sorted(ZOO.glob("*/recipe.toml")), ids=lambda path: path.parent.name)
def test_the_recipes_of_the_zoo(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.name == path.parent.name
    assert recipe.description


BAD = {
    "unknown key": (
        GOOD + "[optimiser]\nlearning_rat = 1",
        "unknown key 'optimiser.learning_rat'.*learning_rate",
    ),
    "unknown key at the top": ("epoch = 3\n" + GOOD, "unknown key 'epoch'.*Did you mean 'epochs'"),
    "a seed that no generator takes": (
        "seed = 99999999999999999999999\n" + GOOD,
        "seed: .*less than 9223372036854775808",
    ),
    "unknown key of the objective": (
        GOOD + '[objective]\nname = "l2nnn"\nomgea = 1',
        "unknown key 'objective.omgea'.*Did you mean 'omega'",
    ),
    "unknown key of the adversary": (
        GOOD + '[objective]\nname = "l2nnn"\n[objective.adversary]\nnorm = "linf"\neps = 0.3\nterm = "ab"',
        "unknown key 'objective.adversary.term'.*Did you mean 'terms'",
    ),
    "an adversary without budget": (
        GOOD + '[objective]\nname = "l2nnn"\nadversary = { norm = "l2" }',
        "'objective.adversary.eps' is missing",
    ),
    "unknown objective": (GOOD + '[objective]\nname = "l2n"', "objective: unknown .*'l2n'.*Did you mean 'l2nnn'"),
    "an objective without a name": (GOOD + "[objective]\nv = 1", "the key 'objective.name' is missing"),
    "unknown regulariser": (
        GOOD + '[[regularisers]]\nname = "clip"',
        "unknown regulariser 'clip'.*clip_singular_values",
    ),
    "unknown key of a regulariser": (
        GOOD + '[[regularisers]]\nname = "clip_singular_values"\nlargest = 1\nevry = 3',
        "unknown key 'regularisers.0.evry'.*Did you mean 'every'",
    ),
    "unknown key of what is held out": (
        GOOD + "[held_out]\nimages = 3\npatiense = 1",
        "unknown key 'held_out.patiense'.*Did you mean 'patience'",
    ),
    "patience with a planned end": (
        GOOD + "[held_out]\nimages = 3\npatience = 1",
        'held_out.patience stops early.*one_cycle.*use "constant" or "steps"',
    ),
    "steps without milestones": (GOOD + '[optimiser]\nschedule = "steps"', "optimiser: .*milestones belong together"),
    "milestones without steps": (GOOD + "[optimiser]\nmilestones = [1]", "optimiser: .*milestones belong together"),
    "a budget that is none": (
        GOOD + '[objective]\nname = "adversarial"\nnorm = "linf"\neps = "8/0"',
        "eps.*'8/0' is no budget",
    ),
    "missing key": ('name = "x"\nepochs = 1', "'architecture' is missing"),
    "out of range": (GOOD.replace("epochs = 2", "epochs = 0"), "epochs.*greater than or equal to 1.*found 0"),
    "no number": (GOOD.replace("epochs = 2", 'epochs = "many"'), "epochs.*integer.*found 'many'"),
    "a name that is a path": (GOOD.replace("tiny", "../tiny"), "name"),
    "never strict": (GOOD + '[objective]\nname = "l2nnn"\nswitch_epoch = 2', "switch_epoch is 2"),
    "not toml": ("name = ", "is not TOML"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_recipes(tmp_path: Path, case: str) -> None:
    text, message = BAD[case]
    with pytest.raises(UsageError, match=rf"(?s){message}"):
        read_recipe(written(tmp_path, text))


def test_budgets_may_be_fractions(tmp_path: Path) -> None:
    text = GOOD + '[objective]\nname = "adversarial"\nnorm = "linf"\neps = "8/255"'
    objective = read_recipe(written(tmp_path, text)).objective
    assert isinstance(objective, Adversarial)
    assert objective.eps == 8 / 255


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no recipe"):
        read_recipe(tmp_path)
    (tmp_path / "recipe.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="cannot be read"):
        read_recipe(tmp_path)


def test_objectives_have_their_own_keys(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, GOOD + '[objective]\nname = "l2nnn"\nomega = 0.5\nswitch_epoch = 1'))
    assert recipe.objective == L2NNN(name="l2nnn", omega=0.5, switch_epoch=1)
