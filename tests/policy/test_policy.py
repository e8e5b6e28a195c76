"""A policy is read whole or refused, with the line and the nearest right key."""

from __future__ import annotations

from pathlib import Path

import pytest

from robcert.errors import UsageError
from robcert.policy.lines import lines_of, nearest
from robcert.policy.load import load_policy
from robcert.policy.schema import seconds

GOOD = """\
[attack]
norm = "l2"

[gate]
models = [
    "digits-l2nnn",
    { path = "net.pt", name = "ours", arch = "mine:net" },
]
data = "digits"
n = 100
time_budget = "10m"
baseline = "baseline.json"

[[gate.require]]
name = "robust"
norm = "l2"
eps = 0.25
attacked_accuracy = 0.8
plan = "pgd:100x2,cw:1k"

[[gate.require]]
name = "no regression"
norm = "linf"
eps = "8/255"
attacked_accuracy_drop = 0.02
"""


def _read(tmp_path: Path, text: str) -> object:
    path = tmp_path / "p.toml"
    path.write_text(text)
    return load_policy(path)


def test_a_policy_is_read(tmp_path: Path) -> None:
    source = _read(tmp_path, GOOD)
    policy = source.policy  # type: ignore[attr-defined]
    assert [model.path for model in policy.models] == ["digits-l2nnn", "net.pt"]
    assert source.lines == (14, 21)  # type: ignore[attr-defined]
    assert policy.time_budget == 600
    assert policy.require[1].eps == 8 / 255
    # The cheapest leg comes first, whatever the order in the file is.
    swapped = _read(tmp_path, GOOD.replace("pgd:100x2,cw:1k", "cw:1k,pgd:100x2"))
    assert [str(leg) for leg in swapped.policy.require[0].legs()] == ["pgd:100x2", "cw:1k"]  # type: ignore[attr-defined]


def test_a_policy_in_pyproject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = GOOD.partition("\n\n")[2].replace("[gate]", "[tool.robcert.gate]").replace("[[gate.", "[[tool.robcert.gate.")
    Path("pyproject.toml").write_text(text)
    source = load_policy()
    assert str(source.path) == "pyproject.toml"
    assert source.lines == (11, 18)
    with pytest.raises(UsageError, match=r"pyproject.toml:14: eps"):
        Path("pyproject.toml").write_text(text.replace("0.25", "-1"))
        load_policy()


@pytest.mark.parametrize(
    ("before", "after", "line", "says"),
    [
        ("data =", "dta =", 9, "did you mean 'data'"),
        ("n = 100", 'n = "100"', 10, "n: input should be a valid integer, found '100'"),
        ("n = 100", "n = 0", 10, "greater than or equal to 1"),
        ('"10m"', '"10x"', 11, "no duration"),
        ("eps = 0.25", "eps = 0", 17, "positive finite"),
        ("eps = 0.25", 'eps = "a"', 17, "no budget"),
        ("eps = 0.25", "eps = nan", 17, "positive finite"),
        ("eps = 0.25", "epsilon = 0.25", 17, "did you mean 'eps'"),
        ("attacked_accuracy = 0.8", 'attacked_accuracy = "0.8"', 18, "no number"),
        ("attacked_accuracy = 0.8", "attacked_accuracy = 80", 14, "at most 1"),
        ("attacked_accuracy = 0.8", "atacked_accuracy = 0.8", 18, "did you mean 'attacked_accuracy'"),
        ("attacked_accuracy = 0.8", "attacked_accuracy = 0.8\nnatural_accuracy = 0.9", 14, "asks for one thing"),
        ("attacked_accuracy = 0.8\n", "", 14, "asks for one thing, this one for nothing"),
        ("pgd:100x2", "pgdd:100x2", 14, "did you mean 'pgd'"),
        ("cw:1k", 'cw:1k"\noptions.cw.abort = false\n#', 14, "has no option 'abort'"),
        ("plan =", "options.pdg.step_size = 0.1\nplan =", 14, "options.pdg: the plan has no pdg leg"),
        ("plan =", "options.fab.alpha_max = 0.1\nplan =", 14, "its attacks: pgd, cw"),
        ('plan = "pgd:100x2,cw:1k"', "options.fab.alpha_max = 0.1", 14, "its attacks: cw, pgd"),
        ('norm = "l2"\neps', 'norm = "l3"\neps', 16, "known: l1, l2, linf"),
        ('norm = "l2"\neps', "eps", 14, "needs norm"),
        ('"no regression"', '"robust"', 4, "two requirements are called 'robust'"),
        ('baseline = "baseline.json"\n', "", 4, "against a baseline"),
        ("plan =", "require_converged = true\nplan =", 14, "needs a sweep"),
        ("plan =", "confidence = 1\nplan =", 19, "less than 1"),
        ("plan =", 'certify = "smoothing"\nplan =', 19, "another classifier"),
        ("plan =", 'certify = "gop"\nplan =', 19, "did you mean 'gap'"),
        ("arch =", "archi =", 5, "did you mean 'arch'"),
        ("[[gate.require]]", "[[gate.required]]", 14, "did you mean 'require'"),
        ('data = "digits"', "data = digits", None, "not toml"),
    ],
)
def test_a_broken_policy_names_the_line_and_the_key(
    tmp_path: Path, before: str, after: str, line: int | None, says: str
) -> None:
    assert before in GOOD
    with pytest.raises(UsageError) as error:
        _read(tmp_path, GOOD.replace(before, after, 1 if before != "[[gate.require]]" else 2))
    said = str(error.value).lower()
    assert says in said
    if line is not None:
        assert f"p.toml:{line}: " in said


def test_options_of_the_default_plan_of_a_detector(tmp_path: Path) -> None:
    text = '[gate]\nmodels = ["m"]\n[[gate.require]]\ndetection_rate = 0.5\nfalse_positive_rate = 0.1\n'
    _read(tmp_path, text + "options.evasive-cw.initial_c = 0.1\n")
    with pytest.raises(UsageError, match="Its attacks: cw, evasive-cw"):
        _read(tmp_path, text + "options.pgd.step_size = 0.1\n")


def test_a_plan_by_name_is_that_of_the_norm(tmp_path: Path) -> None:
    source = _read(tmp_path, GOOD.replace('norm = "linf"', 'norm = "l1"\nplan = "autoattack"'))
    found = source.policy.require[1].legs()  # type: ignore[attr-defined]
    assert {str(leg) for leg in found} == {"apgd:100x5", "apgd-t:100x5", "fab-original:100x9"}


def test_all_problems_are_told_in_the_order_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        _read(tmp_path, GOOD.replace("n = 100", "n = -1").replace("eps = 0.25", "eps = 0").replace("data", "dat", 1))
    assert [text.split(":")[1] for text in error.value.found.splitlines()] == ["9", "10", "17"]


def test_without_a_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="there is no policy"):
        load_policy()
    Path("robcert.toml").write_text("[attack]\nseed = 1\n")
    with pytest.raises(UsageError, match="--init"):
        load_policy()
    with pytest.raises(UsageError, match="cannot be read"):
        load_policy(Path("other.toml"))


def test_lines_of_every_shape_of_toml() -> None:
    text = (
        'a = 1\n"b c".d = """\nx\n[no.header]\n"""\n\n[t.u] # c\ne = [\n  1, # ]\n  2,\n]\n'
        "[[t.v]]\nf = 1\n[[t.v]]\n  f = 2\n[t.v.w]\ng = 3\n"
    )
    found = lines_of(text)
    assert found["a",] == 1
    assert found["b c", "d"] == 2
    assert found["t", "u"] == 7
    assert found["t", "u", "e"] == 8
    assert (found["t", "v", 0, "f"], found["t", "v", 1, "f"], found["t", "v", 1, "w", "g"]) == (13, 15, 17)
    assert nearest(found, ("t", "v", 1, "w", "h")) == 16
    assert nearest(found, ("t", "u", "e", 1)) == 8


def test_durations() -> None:
    assert [seconds(text) for text in ("90s", "10m", "2h", 5)] == [90, 600, 7200, 5]
